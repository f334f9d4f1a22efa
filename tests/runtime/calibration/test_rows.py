from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.calibration import rows
from scanflow_serve.runtime.tensors import Signature, TensorSpec


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool", "str"])
def test_generated_rows_fit_the_signature_and_repeat(dtype: str) -> None:
    spec = TensorSpec("x", dtype, (None, 3, None))
    first = rows.generate(Signature((spec,), ()), 5)["x"]
    again = rows.generate(Signature((spec,), ()), 5)["x"]
    assert first.dtype == spec.numpy_dtype
    assert first.shape == (5, 3, rows.OPEN_DIMENSION)
    np.testing.assert_array_equal(first, again)


def test_rows_start_over_where_there_are_too_few() -> None:
    repeated = rows.repeat({"x": np.array([[1], [2], [3]])}, 5)
    assert repeated["x"].ravel().tolist() == [1, 2, 3, 1, 2]
