"""A schema says what clean rows look like, promises what was tried, and is a file for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.datasets import load_breast_cancer, load_wine

from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.runtime.checks.input_schema import from_yaml, read_schema, to_yaml
from scanflow_serve.runtime.checks.integrity import Integrity
from scanflow_serve.runtime.checks.margins import outward, upper_bound
from scanflow_serve.runtime.checks.rows import Reference, Setting
from scanflow_serve.runtime.checks.schema_inference import (
    Told,
    closed_levels,
    infer,
)
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec


def numbers(width: int, dtype: str = "float32") -> Signature:
    return Signature((TensorSpec("x", dtype, (None, width)),), ())


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_clean_rows_break_a_schema_of_others_no_more_than_it_says(load: object) -> None:
    assert callable(load)
    data: Array = load().data.astype(np.float32)
    broken = total = 0
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(data))
        seen, fresh = np.array_split(data[order], 2)
        made = Integrity(Setting(numbers(data.shape[1])))
        made.fit(Reference({"x": seen}, seed=seed))
        broken += made.inspect({"x": fresh}, len(fresh)).flagged
        total += len(fresh)
        assert made.schema is not None
        assert made.schema.tried is not None
    assert broken / total <= made.schema.tried.at_most


def test_margin_grows_with_the_tails_of_the_data() -> None:
    random = np.random.default_rng(0)
    even, heavy = random.random((500, 4)), random.standard_t(2, (500, 4))
    margins = [infer({"x": rows.astype(np.float32)}, numbers(4)).margin for rows in (even, heavy)]
    assert margins[0] == 0.1 < margins[1]


def test_columns_of_one_unit_share_a_range_and_others_have_their_own() -> None:
    random = np.random.default_rng(0)
    pixels = random.random((100, 8)).astype(np.float32)
    mixed = (pixels * np.array([1, 1, 1, 1, 1, 1e4, 1e4, 1e4])).astype(np.float32)
    shared = infer({"x": pixels}, numbers(8)).inputs["x"]
    assert shared.range is not None
    assert all(column.range is None for column in shared.columns)
    apart = infer({"x": mixed}, numbers(8)).inputs["x"]
    assert apart.range is None
    first = apart.columns[0].range
    assert first is not None
    assert first[1] is not None
    assert 1 <= first[1] <= 1.5


def test_named_columns_have_ranges_of_their_own_and_are_called_by_name() -> None:
    rows = np.random.default_rng(0).random((50, 2)).astype(np.float32)
    told = Told(columns={"x": ("age", "height")}, range={"age": [0, 120]})
    columns = infer({"x": rows}, numbers(2), told).inputs["x"].columns
    assert [column.name for column in columns] == ["age", "height"]
    assert columns[0].range == [0, 120]
    assert columns[1].range is not None


def test_what_never_was_negative_is_not_expected_to_be() -> None:
    assert outward(0.0, 10.0, -1.0, 11.0) == [0.0, 11.0]
    assert outward(-10.0, -2.0, -11.0, 1.0) == [-11.0, 0.0]


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.floats(0, 4))
def test_rounded_bounds_hold_the_data(low: float, width: float, margin: float) -> None:
    high = low + width
    least, most = outward(low, high, low - margin * width, high + margin * width)
    assert least is not None
    assert most is not None
    assert least <= low <= high <= most


def test_categories_are_closed_only_where_new_ones_are_rare() -> None:
    assert closed_levels(["red", "blue"] * 50) == ["blue", "red"]
    assert closed_levels([f"name {i}" for i in range(100)]) is None
    assert closed_levels(["red"] * 95 + ["a", "b", "c", "d", "e"]) is None


@pytest.mark.parametrize(("broken", "rows"), [(0, 100), (0, 1000), (3, 1000), (20, 500)])
def test_bound_of_the_share_is_near_the_exact_one(broken: int, rows: int) -> None:
    exact = beta.ppf(0.95, broken + 1, rows - broken)  # Clopper & Pearson
    assert upper_bound(broken, rows) == pytest.approx(exact, rel=0.12)


def test_constant_columns_are_told_to_reviewers() -> None:
    rows = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    rows[:, 1] = 4
    columns = infer({"x": rows}, numbers(3)).inputs["x"].columns
    assert [column.constant for column in columns] == [False, True, False]


def test_images_have_statistics_of_light() -> None:
    random = np.random.default_rng(0)
    photos = random.random((60, 3, 8, 8)).astype(np.float32)
    signature = Signature((TensorSpec("photo", "float32", (None, 3, None, None)),), ())
    made = Integrity(Setting(signature))
    made.fit(Reference({"photo": photos}))
    dark, grey = photos[:1] * 0.01, photos[:1] * 0.01 + 0.5
    wide = np.repeat(photos[:1], 4, axis=3)
    rules = [
        {finding.rule for finding in made.inspect({"photo": image}, 1).findings}
        for image in (photos[:1] * 0.99, dark, grey, wide)
    ]
    assert rules[0] == set()
    assert {"brightness", "contrast"} <= rules[1]
    assert rules[2] == {"contrast"}
    assert rules[3] == {"aspect"}


def test_document_reads_back_as_it_was_written() -> None:
    rows = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    schema = infer({"x": rows}, numbers(3), source="a.npz", digest="0" * 64)
    text = to_yaml(schema)
    assert from_yaml(text, "a.yaml") == schema
    assert "inferred from a.npz (50 rows)" in text
    assert text.count("- {name:") == 3  # a line a column


def test_levels_that_look_like_other_things_stay_texts() -> None:
    words = np.array([["no"], ["1"], ["1e3"], ["null"]] * 10, object)
    signature = Signature((TensorSpec("word", "str", (None, 1)),), ())
    schema = infer({"word": words}, signature)
    assert from_yaml(to_yaml(schema), "a.yaml").inputs["word"].columns[0].levels == [
        *("1", "1e3", "no", "null")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\ninputs: {x: {dtype: float32}}", r"a\.yaml:2:10: inputs\.x must give 'shape'"),
        ("version: 1\ninput: {}\ninputs: {}", r"a\.yaml:2:1: input is not a known key.*'inputs'"),
        (
            "version: 1\ninputs:\n  x: {dtype: float32, shape: [2], range: [0]}",
            r"a\.yaml:3:42: inputs\.x\.range list should have at least 2 items",
        ),
        ("version: 1\ninputs: {", r"a\.yaml:3:1: must be YAML"),
    ],
)
def test_fault_of_a_document_is_told_at_its_place(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        from_yaml(text, "a.yaml")


def test_document_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"must be a readable file in UTF-8, got .*No such file"):
        read_schema(tmp_path / "none.yaml")


def test_schema_of_another_model_is_refused() -> None:
    rows = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    schema = infer({"x": rows}, numbers(3))
    other = Integrity(Setting(numbers(3, "float64")))
    with pytest.raises(ValueError, match=r"inputs must be among .* got 'x' of float32"):
        other.adopt(schema)
