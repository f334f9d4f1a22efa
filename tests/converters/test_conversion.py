from __future__ import annotations

import json

import numpy as np
import pytest

from scanflow_serve.converters.conversion import Context, Options
from scanflow_serve.policies.errors import ArtifactError

ROWS = {"x": np.arange(100), "y": np.arange(100.0)[:, None], "other": np.zeros(1)}


def test_batches_are_spread_over_all_rows_and_hold_the_inputs_only() -> None:
    context = Context(ROWS, options=Options(samples=5))
    batches = list(context.batches(["x", "y"], None))
    assert [int(batch["x"][0]) for batch in batches] == [0, 25, 50, 74, 99]
    assert {tuple(sorted(batch)) for batch in batches} == {("x", "y")}
    assert batches[1]["y"].tolist() == [[25.0]]


def test_last_batch_is_filled_from_the_start() -> None:
    batches = list(Context({"x": np.arange(5)}).batches(["x"], 4))
    assert [batch["x"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 0, 1, 2]]


def test_batch_that_a_model_insists_on_prevails() -> None:
    context = Context(ROWS, options=Options(samples=8, batch=2))
    assert [len(batch["x"]) for batch in context.batches(["x"], 4)] == [4, 4]
    assert [len(batch["x"]) for batch in context.batches(["x"], None)] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        (None, "got none"),
        ({"x": np.zeros((0, 3))}, "got 0 of x"),
        ({"pixels": np.zeros(3)}, "got 3 of pixels"),
    ],
)
def test_missing_rows_are_refused_with_what_there_is(
    rows: dict[str, np.ndarray] | None, got: str
) -> None:
    with pytest.raises(ArtifactError, match=f"Calibration rows must hold x, {got}"):
        list(Context(rows).batches(["x"], None))


@pytest.mark.parametrize(
    ("features", "saturates"),
    [
        ({"avx2"}, True),
        ({"avx2", "avx_vnni"}, False),
        ({"avx512f", "avx512_vnni"}, False),
        ({"avx512f", "amx_int8"}, False),
        ({"neon", "asimd"}, False),
        (set(), True),  # unknown: a bit of accuracy is cheaper than wrong sums
    ],
)
def test_int8_sums_overflow_on_x86_without_vnni(features: set[str], saturates: bool) -> None:
    assert Context(features=frozenset(features)).saturates is saturates


def test_options_survive_json() -> None:
    options = Options(samples=7, ignored=("a", "b"), batch=2)
    assert Options.from_json(json.loads(json.dumps(options.to_json()))) == options
