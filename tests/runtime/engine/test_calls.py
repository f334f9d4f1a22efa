"""Several requests in one call get what each would have got alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanflow_serve.policies.errors import BackendError, InputError
from scanflow_serve.runtime.engine.calls import holds_nan, run_together, spoiled


def double(inputs: Any) -> Any:
    return {"y": inputs["x"] * 2, "n": np.arange(len(inputs["x"]))}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 16))
def test_each_request_gets_its_own_rows_whatever_the_batch(rows: list[int], most: int) -> None:
    sizes: list[int] = []

    def run(inputs: Any) -> Any:
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    starts = np.cumsum([0, *rows])
    asked = [
        {"x": np.arange(start, start + count, dtype=np.float32)[:, None]}
        for start, count in zip(starts, rows, strict=False)
    ]
    outcomes = run_together(run, asked, sum(rows), most)
    for inputs, outcome in zip(asked, outcomes, strict=True):
        assert isinstance(outcome, dict)
        np.testing.assert_array_equal(outcome["y"], inputs["x"] * 2)
    assert max(sizes) <= most
    assert sum(sizes) == sum(rows)
    assert len(sizes) == -(-sum(rows) // most)


def test_requests_of_another_length_or_dtype_run_one_by_one() -> None:
    calls: list[tuple[int, ...]] = []

    def run(inputs: Any) -> Any:
        calls.append(inputs["x"].shape)
        return double(inputs)

    short, long = np.ones((1, 3), np.float32), np.ones((2, 5), np.float32)
    outcomes = run_together(run, [{"x": short}, {"x": long}, {"x": short.astype(np.int64)}], 4, 8)
    assert calls == [(1, 3), (2, 5), (1, 3)]
    assert [len(outcome["y"]) for outcome in outcomes if isinstance(outcome, dict)] == [1, 2, 1]


def test_texts_of_any_length_share_a_call() -> None:
    calls = []

    def run(inputs: Any) -> Any:
        calls.append(len(inputs["x"]))
        return {"y": inputs["x"]}

    outcomes = run_together(run, [{"x": np.array(["a"])}, {"x": np.array(["longer"])}], 2, 8)
    assert calls == [2]
    assert [outcome["y"][0] for outcome in outcomes if isinstance(outcome, dict)] == ["a", "longer"]


def test_outputs_that_are_no_rows_are_asked_for_one_by_one() -> None:
    def total(inputs: Any) -> Any:
        return {"sum": inputs["x"].sum(keepdims=True)[0]}

    outcomes = run_together(total, [{"x": np.full((2, 1), n)} for n in (1.0, 2.0)], 4, 8)
    assert [outcome["sum"].item() for outcome in outcomes if isinstance(outcome, dict)] == [2, 4]


def test_input_error_of_one_request_spares_the_others() -> None:
    def picky(inputs: Any) -> Any:
        if (inputs["x"] < 0).any():
            raise InputError("x must be >= 0, got less. Send no less.")
        return double(inputs)

    outcomes = run_together(picky, [{"x": np.array([v])} for v in (1.0, -1.0, 3.0)], 3, 8)
    assert [isinstance(outcome, InputError) for outcome in outcomes] == [False, True, False]


def test_failure_of_the_call_is_raised() -> None:
    def broken(inputs: Any) -> Any:
        raise BackendError("out of luck")

    with pytest.raises(BackendError, match="out of luck"):
        run_together(broken, [{"x": np.ones(1)}, {"x": np.ones(1)}], 2, 8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [4, 4000])
def test_nan_is_seen_and_infinities_are_not_taken_for_it(size: int) -> None:
    array = np.zeros((1, size), np.float32)
    array[0, :2] = np.inf, -np.inf
    assert not holds_nan({"y": array}, ["y"])
    array[0, 2] = np.nan
    assert holds_nan({"y": array}, ["y"])
    assert not holds_nan({"y": array}, [])
    assert not holds_nan({"y": array[:0]}, ["y"])


def test_nan_for_nan_spoils_nothing() -> None:
    nan, fine = np.full((1, 2), np.nan), np.ones((1, 2))
    assert not spoiled([{"x": nan}], [{"y": nan}], ["y"])
    assert not spoiled([{"x": fine}], [{"y": fine}], ["y"])
    assert spoiled([{"x": nan}, {"x": fine}], [{"y": nan}, {"y": nan}], ["y"])
