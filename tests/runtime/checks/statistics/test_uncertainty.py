from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from scanflow_serve.runtime.checks.statistics.uncertainty import entropy, least_confidence

LOGITS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(2, 6)),
    elements=st.floats(-20, 20, width=32),
)


@settings(deadline=None)
@given(logits=LOGITS)
def test_scores_are_those_of_the_literature_for_single_precision_too(logits: np.ndarray) -> None:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert entropy(p) == pytest.approx(stats.entropy(p.astype(np.float64), axis=1), abs=1e-5)
    assert least_confidence(p) == pytest.approx(1 - p.max(axis=1), abs=1e-6)


def test_certain_row_has_no_entropy_and_an_even_one_the_most() -> None:
    assert entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0, np.log(2)])
