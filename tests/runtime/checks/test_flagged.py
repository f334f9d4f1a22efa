from __future__ import annotations

import json

import numpy as np
import pytest

from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.checks import flagged
from scanflow_serve.runtime.checks.flagged import FlaggedRows, image_inputs, picture
from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.checks.inspection import Finding
from scanflow_serve.runtime.checks.protocol import Verdicts
from scanflow_serve.runtime.checks.rows import Answers, Observed
from scanflow_serve.runtime.tensors import Signature, TensorSpec

FLAT = ImageShape("flat", 2, 3, 1)


def observed(inputs, first=0, predicted=True):
    rows = len(next(iter(inputs.values())))
    return Observed(
        ids=[f"id-{first + index}" for index in range(rows)],
        inputs=inputs,
        answers=Answers({}, predicted=np.arange(rows) if predicted else None),
        variant="near",
        at=np.arange(rows, dtype=np.float64) + first,
    )


def verdicts(places, rows):
    flags = np.zeros(rows, bool)
    flags[places] = True
    return Verdicts(np.where(flags, 0.001, 0.5), flags)


def test_flagged_rows_are_kept_newest_first_and_others_are_not():
    kept = FlaggedRows()
    kept.note(observed({"x": np.arange(4.0)}), verdicts([1, 3], 4))
    kept.note(observed({"x": np.arange(2.0)}, first=4), verdicts([0], 2))
    rows = kept.after()
    assert [row.id for row in rows] == ["id-4", "id-3", "id-1"]
    assert [row.inputs[0].values for row in rows] == [(0.0,), (3.0,), (1.0,)]
    assert (rows[1].predicted, rows[1].p_val, rows[1].at, rows[1].variant) == (
        3,
        0.001,
        3.0,
        "near",
    )


def test_no_more_are_kept_however_many_are_flagged():
    kept = FlaggedRows()
    for first in range(0, 500, 100):
        kept.note(observed({"x": np.zeros((100, 200))}, first), verdicts(range(100), 100))
    rows = kept.after()
    assert [row.id for row in rows] == [f"id-{499 - n}" for n in range(flagged.MOST_ROWS)]
    assert len(rows[0].inputs[0].values) == flagged.MOST_VALUES
    assert rows[0].inputs[0].total == 200


def test_only_what_is_newer_than_a_known_row_is_told():
    kept = FlaggedRows()
    kept.note(observed({"x": np.arange(3.0)}), verdicts([0, 1, 2], 3))
    assert [row.id for row in kept.after("id-1")] == ["id-2"]
    assert kept.after("id-2") == ()
    assert len(kept.after("long gone")) == 3


def test_nothing_is_kept_of_a_check_that_flags_no_rows():
    kept = FlaggedRows()
    kept.note(observed({"x": np.arange(3.0)}), None)
    kept.note(observed({"x": np.arange(3.0)}), verdicts([], 3))
    assert kept.after() == ()


def broken(row, value=99.0, at="[1]"):
    return Finding("integrity", row, "x", at, "range", value, "between 0 and 16")


def test_a_refused_row_is_kept_with_the_rule_that_it_broke():
    kept = FlaggedRows({"x": FLAT}, clock=lambda: 5.0)
    pixels = np.arange(12.0).reshape(2, 6)
    kept.judge({"x": pixels}, [broken(1), broken(1, 98.0, "[2]"), broken(0)])
    (row,) = kept.after()
    assert (row.refused, row.at, row.variant, row.predicted, row.p_val) == (
        True,
        5.0,
        "",
        None,
        None,
    )
    assert row.why == "x[1] must be between 0 and 16, got 99.0 (1 more like it in this row)"
    assert list(row.inputs[0].picture.pixels) == [0, 51, 102, 153, 204, 255]
    assert len(row.id) == 26


def test_a_row_that_was_answered_keeps_its_id():
    kept = FlaggedRows()
    kept.judge({"x": np.arange(2.0)}, [broken(1)], ["one", "two"], "near")
    (row,) = kept.after()
    assert (row.id, row.refused, row.variant, row.inputs[0].values) == (
        "two",
        False,
        "near",
        (1.0,),
    )


def test_a_flood_of_broken_rows_costs_ten_pictures_a_second():
    times = iter([0.0, 0.05, 0.11, 0.12, -9.0])
    kept = FlaggedRows(clock=lambda: next(times))
    for value in range(5):
        kept.judge({"x": np.array([float(value)])}, [broken(0)])
    assert [row.inputs[0].values for row in kept.after()] == [(4.0,), (2.0,), (0.0,)]


def test_text_of_any_length_is_cut():
    kept = FlaggedRows()
    kept.judge({"x": np.array(["y" * 10_000], object)}, [broken(0, "y")])
    assert kept.after()[0].inputs[0].values == ("y" * flagged.MOST_TEXT,)


def test_a_flat_row_becomes_the_picture_that_the_policy_says_it_is():
    kept = FlaggedRows({"x": FLAT})
    kept.note(observed({"x": np.array([[-1.0, 0, 1, 1, 1, 3]])}, predicted=False), verdicts([0], 1))
    (row,) = kept.after()
    shown = row.inputs[0].picture
    assert (shown.height, shown.width, shown.channels) == (2, 3, 1)
    assert list(shown.pixels) == [0, 63, 127, 127, 127, 255]
    assert row.inputs[0].values == ()
    assert json.loads(json.dumps(row.to_json()))["inputs"][0]["picture"]["pixels"][5] == 255


def test_text_is_told_as_text():
    kept = FlaggedRows()
    kept.note(observed({"colour": np.array(["red", "black"])}), verdicts([1], 2))
    assert kept.after()[0].inputs[0].values == ("black",)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_colours_of_a_pixel_stand_together_in_either_layout(layout):
    pixels = np.zeros((2, 2, 3))
    pixels[0, 1] = [0.5, 1.0, 0.25]
    row = pixels.transpose(2, 0, 1) if layout == "NCHW" else pixels
    shown = picture(row, ImageShape(layout, 2, 2, 3))
    assert list(shown.pixels[3:6]) == [127, 255, 63]
    assert sum(shown.pixels) == 127 + 255 + 63


def test_a_large_image_is_thinned():
    shown = picture(np.random.default_rng(0).random((3, 300, 100)), ImageShape("NCHW", 300, 100, 3))
    assert (shown.height, shown.width) == (64, 64)
    assert len(shown.pixels) == 64 * 64 * 3


def test_pixels_that_are_no_numbers_do_not_spoil_the_picture():
    row = np.array([np.nan, np.inf, -np.inf, 0.0, 2.0, 4.0])
    assert list(picture(row, FLAT).pixels) == [0, 255, 0, 0, 127, 255]
    assert set(picture(np.full(6, np.nan), FLAT).pixels) == {0}


def test_images_are_found_by_their_shape_or_by_the_policy(tmp_path):
    text = """
apiVersion: scanflow/v1
name: pictures
models: {net: {source: net.onnx}}
workflows: {read: {steps: [{model: net}]}}
targets: [{run: read}]
objective: {minimize: size_mb}
serve: {image: {mode: L, width: 8, height: 8, layout: flat, input: pixels}}
"""
    (tmp_path / "net.onnx").write_bytes(b"")
    policy = load_policy(tmp_path / "policy.yaml", text=text).policy
    inputs = (
        TensorSpec("pixels", "float32", (None, 64)),
        TensorSpec("photo", "uint8", (None, 3, 224, 224)),
        TensorSpec("age", "float32", (None, 1)),
    )
    assert image_inputs(policy, Signature(inputs, ())) == {
        "pixels": ImageShape("flat", 8, 8, 1),
        "photo": ImageShape("NCHW", 224, 224, 3),
    }
