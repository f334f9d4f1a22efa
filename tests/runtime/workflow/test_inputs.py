import numpy as np
import pytest
from workflow_worlds import spec

from scanflow_serve.policies.errors import InputError, WorkflowError
from scanflow_serve.runtime.tensors import Signature
from scanflow_serve.runtime.validation import Rows
from scanflow_serve.runtime.workflow.inputs import arrange, check_inputs

SIGNATURE = Signature((spec("x", 2), spec("word", dtype="str")), ())
X = np.zeros((3, 2), np.float32)
WORDS = np.array(["a", "b", "c"], dtype=object)


def test_inputs_that_fit_give_their_number_of_rows():
    assert check_inputs(SIGNATURE, {"x": X, "word": WORDS}) == 3
    assert check_inputs(SIGNATURE, {"word": WORDS.astype(str), "x": X}) == 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": X}, r"must be exactly \['x', 'word'\], got \['x'\]"),
        ({"x": X, "word": WORDS, "z": X}, r"got \['x', 'word', 'z'\]"),
        ({"x": X.astype(np.float64), "word": WORDS}, "'x': dtype must be float32, got float64"),
        ({"x": X[:, :1], "word": WORDS}, r"'x': shape must be \[rows, 2\] .* got \[3, 1\]"),
        ({"x": X[0], "word": WORDS}, r"got \[2\]"),
        ({"x": X[:0], "word": WORDS[:0]}, r"at least one row, got \[0, 2\]"),
        ({"x": X, "word": WORDS[:2]}, "'word': all inputs .* got 2 after 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        check_inputs(SIGNATURE, inputs)


def test_validation_arrays_are_taken_in_order_where_names_differ():
    rows = Rows({"pixels": X, "text": WORDS}, None, 3)
    assert list(arrange(["x", "word"], rows)) == ["x", "word"]


def test_validation_arrays_that_match_neither_way_are_an_error():
    with pytest.raises(WorkflowError, match=r"inputs \['x', 'word'\] .* got \['pixels'\]"):
        arrange(["x", "word"], Rows({"pixels": X}, None, 3))
