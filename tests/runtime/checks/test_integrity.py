"""Clean rows pass, each kind of fault is caught, named, repaired or refused as the policy says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scanflow_serve.runtime.checks.inspection import Finding, Inspection, Rule, Unread
from scanflow_serve.runtime.checks.integrity import Integrity
from scanflow_serve.runtime.checks.protocol import Check
from scanflow_serve.runtime.checks.rows import Answers, Observed, Reference, Setting
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec

DATA = Path(__file__).parents[2] / "contract" / "data"
PIXELS = Signature((TensorSpec("pixels", "float32", (None, 64)),), ())
TABLE = Signature(
    (
        TensorSpec("age", "float32", (None, 1)),
        TensorSpec("children", "int64", (None, 1)),
        TensorSpec("colour", "str", (None, 1)),
        TensorSpec("day", "str", (None, 1)),
    ),
    (),
)


def digits(part: str) -> Array:
    with np.load(DATA / f"digits-{part}.npz") as file:
        pixels: Array = file["pixels"].astype(np.float32)
        return pixels


def people(rows: int, seed: int = 0) -> Tensors:
    random = np.random.default_rng(seed)
    colours = np.array(["red", "blue"], object)[random.integers(0, 2, (rows, 1))]
    days = [[f"2026-{m:02}-{d:02}"] for m, d in random.integers(1, 13, (rows, 2))]
    return {
        "age": random.uniform(18, 90, (rows, 1)).astype(np.float32),
        "children": random.integers(0, 4, (rows, 1)),
        "colour": colours,
        "day": np.array(days, object),
    }


def check(signature: Signature, inputs: Tensors, **told: Any) -> Integrity:
    made = Integrity(Setting(signature), **told)
    made.fit(Reference(inputs, source="reference.npz"))
    return made


@pytest.fixture(scope="module")
def clean() -> Array:
    return digits("train")


def with_cell(rows: Array, value: float, row: int = 1, at: int = 20, first: int = 0) -> Tensors:
    changed = rows[first : first + 3].copy()
    changed[row, at] = value
    return {"pixels": changed}


def only(found: Inspection) -> Finding:
    (finding,) = found.findings
    return finding


def test_integrity_is_a_check() -> None:
    assert isinstance(Integrity(Setting(PIXELS)), Check)


def test_without_a_schema_it_is_not_ready_and_refuses_nothing(clean: Array) -> None:
    made = Integrity(Setting(PIXELS), on_fail="refuse")
    assert not made.result().ready
    assert made.inspect(with_cell(clean, 1e9), 3).refused is None


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_clean_digits_are_neither_refused_nor_flagged(clean: Array, part: str) -> None:
    rows = digits(part)
    found = check(PIXELS, {"pixels": clean}, on_fail="refuse").inspect({"pixels": rows}, len(rows))
    assert (found.refused, found.flagged) == (None, 0)


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(20, 40), st.integers(1, 5)),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    st.sampled_from([None, 0.0, 0.3]),
)
def test_rows_of_the_reference_are_never_refused(rows: Array, margin: float | None) -> None:
    signature = Signature((TensorSpec("x", "float32", (None, rows.shape[1])),), ())
    made = check(signature, {"x": rows}, on_fail="refuse", margin=margin)
    for row in rows:
        assert made.inspect({"x": row[None]}, 1).refused is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["", "red", "blue", "7", "2026-01-02"]), min_size=20, max_size=60))
def test_texts_of_the_reference_are_never_refused(texts: list[str]) -> None:
    signature = Signature((TensorSpec("word", "str", (None, 1)),), ())
    words = np.array(texts, object)[:, None]
    made = check(signature, {"word": words}, on_fail="refuse")
    assert made.inspect({"word": words}, len(words)).refused is None


@pytest.mark.parametrize(
    ("value", "rule", "shown"),
    [
        (99.0, "range", 99.0),
        (-40.0, "range", -40.0),
        (np.nan, "null", None),
        (np.inf, "infinite", "inf"),
        (-np.inf, "infinite", "-inf"),
    ],
)
def test_fault_of_a_number_is_caught_and_named(
    clean: Array, value: float, rule: Rule, shown: Any
) -> None:
    found = check(PIXELS, {"pixels": clean}).inspect(with_cell(clean, value), 3)
    finding = only(found)
    assert (finding.row, finding.at, finding.rule, finding.value) == (1, "[20]", rule, shown)
    assert (found.refused, found.inputs, found.flagged) == (None, None, 1)


@pytest.mark.parametrize("value", [99.0, np.nan, np.inf])
def test_policy_that_refuses_has_the_request_refused(clean: Array, value: float) -> None:
    made = check(PIXELS, {"pixels": clean}, on_fail="refuse")
    found = made.inspect(with_cell(clean, value), 3)
    assert found.refused == found.findings[0]


@pytest.mark.parametrize(
    ("value", "instead"), [(99.0, 16.0), (-1.0, 0.0), (np.inf, 16.0), (-np.inf, 0.0)]
)
def test_repair_clips_to_the_range(clean: Array, value: float, instead: float) -> None:
    made = check(PIXELS, {"pixels": clean}, on_fail="repair", range={"pixels": [0, 16]})
    sent = with_cell(clean, value)
    found = made.inspect(sent, 3)
    assert found.inputs is not None
    assert found.inputs["pixels"][1, 20] == instead == only(found).repaired
    assert sent["pixels"][1, 20] == value  # the caller's own


def test_repair_puts_the_median_where_a_value_is_missing(clean: Array) -> None:
    made = check(PIXELS, {"pixels": clean}, on_fail="repair")
    found = made.inspect(with_cell(clean, np.nan), 3)
    assert found.inputs is not None
    assert found.inputs["pixels"][1, 20] == np.median(clean[:, 20])
    unharmed = found.inputs["pixels"] == with_cell(clean, np.nan)["pixels"]
    assert unharmed.sum() == 3 * 64 - 1


def test_missing_values_are_no_fault_where_the_reference_has_them(clean: Array) -> None:
    gappy = clean.copy()
    gappy[::10, 20] = np.nan
    made = check(PIXELS, {"pixels": gappy}, on_fail="refuse")
    assert made.inspect(with_cell(clean, np.nan), 3).flagged == 0
    assert made.inspect(with_cell(clean, np.nan, at=21), 3).refused is not None


def test_range_of_the_policy_holds_without_margin(clean: Array) -> None:
    made = check(PIXELS, {"pixels": clean}, range={"pixels": [0, 16]})
    assert made.inspect(with_cell(clean, 16.0), 3).flagged == 0
    assert only(made.inspect(with_cell(clean, 16.5, first=3), 3)).expected == "between 0 and 16"


def test_blank_image_is_caught(clean: Array) -> None:
    made = check(PIXELS, {"pixels": clean})
    for level in (0.0, 16.0):
        found = made.inspect({"pixels": np.full((1, 64), level, np.float32)}, 1)
        assert only(found).rule == "constant"


def test_row_that_came_before_is_flagged_but_answered(clean: Array) -> None:
    made = check(PIXELS, {"pixels": clean}, on_fail="refuse")
    assert made.inspect({"pixels": clean[:2]}, 2).flagged == 0
    found = made.inspect({"pixels": clean[1:3]}, 2)
    assert (only(found).row, only(found).rule, found.refused) == (0, "duplicate", None)
    assert not made.result().alarm


def test_repeats_are_no_fault_where_the_reference_repeats_rows(clean: Array) -> None:
    made = check(PIXELS, {"pixels": np.concatenate([clean[:100], clean[:100]])})
    rows = {"pixels": clean[:1]}
    assert [made.inspect(rows, 1).flagged for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("colour", "black", "level"),
        ("colour", "", "null"),
        ("children", 9, "level"),
        ("age", 4000.0, "range"),
        ("day", "Monday", "format"),
    ],
)
def test_fault_of_a_column_is_caught_and_named(column: str, value: Any, rule: Rule) -> None:
    row = {name: array[:1].copy() for name, array in people(1, seed=7).items()}
    made = check(TABLE, people(600))
    assert made.inspect(row, 1).flagged == 0
    row[column][0, 0] = value
    finding = only(made.inspect(row, 1))
    assert (finding.input, finding.at, finding.rule, finding.value) == (column, "", rule, value)


def test_new_category_raises_the_alarm_with_the_first_request() -> None:
    told: list[Finding] = []
    made = check(TABLE, people(600), notify=told.append)
    row = {name: array[:1].copy() for name, array in people(1, seed=7).items()}
    row["colour"][0, 0] = "black"
    made.inspect(row, 1)
    assert made.result().alarm
    assert made.result().why == "Values that normal times do not have: level."
    assert [(each.rule, each.value) for each in told] == [("level", "black")]
    made.acknowledge()
    assert not made.result().alarm


def test_same_fault_is_told_once_a_minute(clean: Array) -> None:
    told: list[Finding] = []
    now = [0.0]
    made = check(PIXELS, {"pixels": clean}, notify=told.append, clock=lambda: now[0])
    for _ in range(5):
        made.inspect(with_cell(clean, 99.0), 3)
    assert len([each for each in told if each.rule == "range"]) == 1
    now[0] = 61.0
    made.inspect(with_cell(clean, 99.0), 3)
    assert len([each for each in told if each.rule == "range"]) == 2


def test_unknown_level_is_repaired_by_the_most_frequent() -> None:
    inputs = people(600)
    inputs["colour"][:400] = "red"
    made = check(TABLE, inputs, on_fail="repair")
    row = {name: array[:1].copy() for name, array in people(1, seed=7).items()}
    row["colour"][0, 0] = "black"
    found = made.inspect(row, 1)
    assert found.inputs is not None
    assert found.inputs["colour"].tolist() == [["red"]]
    assert only(found).repaired == "red"


def test_levels_of_the_policy_are_the_levels() -> None:
    made = check(TABLE, people(600), levels={"colour": ["red", "blue", "black"]})
    row = {name: array[:1].copy() for name, array in people(1, seed=7).items()}
    row["colour"][0, 0] = "black"
    assert made.inspect(row, 1).flagged == 0


def test_steady_faults_raise_the_alarm_and_seldom_ones_do_not(clean: Array) -> None:
    made = check(PIXELS, {"pixels": clean})
    random = np.random.default_rng(3)
    for _ in range(40):
        made.inspect({"pixels": clean[random.permutation(len(clean))[:100]]}, 100)
    assert made.tally.rows == 4000
    made.inspect(with_cell(clean, 99.0), 3)
    assert not made.result().alarm
    for _ in range(20):
        made.inspect(with_cell(clean, 99.0), 3)
    assert made.result().alarm
    assert "rows break a rule" in made.result().why


def test_cell_that_is_no_number_is_refused_unless_it_can_be_repaired(clean: Array) -> None:
    unread = [Unread("pixels", 64 + 20, "n/a", "format")]
    sent = with_cell(clean, np.nan)
    for on_fail in ("refuse", "flag"):
        found = check(PIXELS, {"pixels": clean}, on_fail=on_fail).inspect(sent, 3, unread)
        assert found.refused is not None
        assert (found.refused.at, found.refused.value) == ("[20]", "n/a")
    found = check(PIXELS, {"pixels": clean}, on_fail="repair").inspect(sent, 3, unread)
    assert found.refused is None
    assert found.inputs is not None
    assert found.inputs["pixels"][1, 20] == np.median(clean[:, 20])


def test_number_in_quotes_is_answered_and_told(clean: Array) -> None:
    unread = [Unread("pixels", 64 + 20, "7.5", "dtype")]
    made = check(PIXELS, {"pixels": clean})
    found = made.inspect(with_cell(clean, 7.5), 3, unread)
    assert (only(found).rule, only(found).value, found.refused) == ("dtype", "7.5", None)
    assert made.result().alarm  # a dtype that never was


def test_findings_of_a_request_are_bounded_and_its_rows_counted(clean: Array) -> None:
    made = check(PIXELS, {"pixels": clean}, on_fail="repair")
    found = made.inspect({"pixels": clean + 1000}, len(clean))
    assert found.flagged == len(clean)
    assert len(found.findings) == 100
    assert found.inputs is not None
    assert found.inputs["pixels"].max() <= 17.61


def test_state_survives_a_restart(clean: Array) -> None:
    first = check(PIXELS, {"pixels": clean})
    first.inspect(with_cell(clean, 99.0), 3)
    second = Integrity(Setting(PIXELS))
    second.restore(first.state())
    assert second.schema == first.schema
    assert second.result().statistic == first.result().statistic == 1 / 3
    assert only(second.inspect(with_cell(clean, np.inf), 3)).rule == "infinite"


def test_replicas_add_up(clean: Array) -> None:
    one, other = (check(PIXELS, {"pixels": clean}) for _ in range(2))
    for made in (one, other):
        made.inspect(with_cell(clean, 99.0), 3)
    one.merge([other.state()])
    assert (one.tally.rows, one.tally.flagged, one.tally.counts["range"]) == (6, 2, 2)


def test_observed_rows_are_judged_one_by_one(clean: Array) -> None:
    made = check(PIXELS, {"pixels": clean})
    seen = Observed(["a", "b", "c"], with_cell(clean, 99.0), Answers({}), "v", np.zeros(3))
    verdicts = made.observe(seen)
    assert verdicts is not None
    assert verdicts.flagged.tolist() == [False, True, False]


@pytest.mark.parametrize("key", ["range", "levels"])
def test_setting_of_a_column_that_does_not_exist_is_refused(clean: Array, key: str) -> None:
    told: Any = {key: {"pixel": [0, 16]}}
    with pytest.raises(ValueError, match=rf"{key} must name an input or column .* got 'pixel'"):
        check(PIXELS, {"pixels": clean}, **told)


def test_too_few_rows_are_refused(clean: Array) -> None:
    with pytest.raises(ValueError, match=r"needs at least 20 rows of reference data, got 19"):
        check(PIXELS, {"pixels": clean[:19]})


def test_unknown_outcome_is_refused() -> None:
    told: Any = {"on_fail": "ignore"}
    with pytest.raises(ValueError, match=r"on_fail must be refuse, flag or repair, got 'ignore'"):
        Integrity(Setting(PIXELS), **told)
