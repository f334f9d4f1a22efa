"""An explanation names the values that made the score, and costs a bounded number of scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from scanflow_serve.runtime.checks.explanations import Explainer
from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.checks.members import Stake
from scanflow_serve.runtime.checks.occlusion import Group, explain, row_groups, typical_row
from scanflow_serve.runtime.checks.portfolio import Portfolio
from scanflow_serve.runtime.checks.rows import Answers, Observed, Reference, Setting
from scanflow_serve.runtime.checks.scored import ScoreMember
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec

GREY = ImageShape("flat", 8, 8, 1)


def from_zero(inputs: Tensors) -> Array:
    squares: Array = (inputs["x"].reshape(len(inputs["x"]), -1).astype(np.float64) ** 2).sum(axis=1)
    return squares


def seen(rows: Array, ids: list[str]) -> Observed:
    return Observed(ids, {"x": rows}, Answers({}), "v", np.zeros(len(rows)))


def test_attribution_of_a_sum_is_exactly_its_terms() -> None:
    row = {"x": np.array([[1.0, -2.0, 3.0, 0.0]])}
    groups = row_groups(row, {}, {})
    change = explain(from_zero, row, {"x": np.zeros((1, 4))}, groups)
    assert [group.name for group in groups] == ["[0]", "[1]", "[2]", "[3]"]
    assert change.tolist() == [1.0, 4.0, 9.0, 0.0]


def test_values_that_lower_a_score_count_negative() -> None:
    change = explain(
        from_zero,
        {"x": np.array([[0.0, 5.0]])},
        {"x": np.array([[2.0, 5.0]])},
        row_groups({"x": np.zeros((1, 2))}, {}, {}),
    )
    assert change.tolist() == [-4.0, 0.0]


def test_several_background_rows_are_averaged() -> None:
    background = {"x": np.array([[1.0], [3.0]])}
    change = explain(
        from_zero, {"x": np.array([[5.0]])}, background, [Group("", "x", np.arange(1))]
    )
    assert change.tolist() == [25 - (1 + 9) / 2]


def test_corrupted_patch_of_an_image_is_the_first_named() -> None:
    image = np.zeros((1, 64), np.float32)
    image.reshape(8, 8)[4:6, 2:4] = 9
    groups = row_groups({"x": image}, {"x": GREY}, {})
    change = explain(from_zero, {"x": image}, {"x": np.zeros((1, 64), np.float32)}, groups)
    assert len(groups) == 16
    assert groups[int(change.argmax())].name == "[4:6, 2:4]"
    assert np.count_nonzero(change) == 1


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((64,), None),
        ((5000,), None),
        ((64,), GREY),
        ((3, 224, 224), ImageShape("NCHW", 224, 224, 3)),
        ((224, 224, 3), ImageShape("NHWC", 224, 224, 3)),
        ((40, 6), None),
        ((1,), None),
        ((), None),
    ],
)
def test_groups_hold_every_value_once_and_are_few(
    shape: tuple[int, ...], image: ImageShape | None
) -> None:
    row = {"x": np.zeros((1, *shape))}
    groups = row_groups(row, {} if image is None else {"x": image}, {})
    assert 1 <= len(groups) <= 64
    assert sorted(np.concatenate([group.at for group in groups])) == [*range(row["x"].size)]
    assert len({group.name for group in groups}) == len(groups)


def test_columns_are_called_by_their_names() -> None:
    groups = row_groups({"x": np.zeros((1, 2))}, {}, {"x": ("age", "height")})
    assert [group.name for group in groups] == ["age", "height"]


def test_typical_row_has_medians_and_the_most_frequent_text() -> None:
    typical = typical_row(
        {
            "a": np.array([[1.0, np.nan], [2.0, np.nan], [9.0, np.nan]]),
            "n": np.array([[1], [2], [4]]),
            "t": np.array([["red"], ["red"], ["blue"]], object),
        }
    )
    assert {name: array.tolist() for name, array in typical.items()} == {
        "a": [[2.0, 0.0]],
        "n": [[2]],
        "t": [["red"]],
    }


def test_flagged_row_is_explained_with_its_id() -> None:
    made = Explainer(from_zero, {"x": np.zeros((1, 3))})
    rows = np.array([[0.0, 0, 0], [1, 9, 2], [0, 0, 0]])
    made.note(seen(rows, ["a", "b", "c"]), np.array([False, True, False]))
    (told,) = made.latest
    assert told.to_json() == {
        "id": "b",
        "score": 86.0,
        "typical": 0.0,
        "parts": [
            {"name": "x[1]", "change": 81.0},
            {"name": "x[2]", "change": 4.0},
            {"name": "x[0]", "change": 1.0},
        ],
        "heat": [],
    }


def test_rows_are_explained_no_more_often_than_once_a_second() -> None:
    now = [0.0]
    calls = []

    def counted(inputs: Tensors) -> Array:
        calls.append(len(inputs["x"]))
        return from_zero(inputs)

    made = Explainer(counted, {"x": np.zeros((1, 64))}, clock=lambda: now[0])
    for at in range(50):
        now[0] = at * 0.1
        made.note(seen(np.ones((10, 64)), [str(at)] * 10), np.ones(10, np.bool_))
    assert [told.id for told in made.latest] == ["40", "30", "20", "10", "0"]
    assert sum(calls) == 5 * (64 + 3)


def test_row_of_another_size_is_left_alone() -> None:
    made = Explainer(from_zero, {"x": np.zeros((1, 3))})
    made.note(seen(np.ones((1, 5)), ["a"]), np.array([True]))
    assert made.latest == ()


def test_heat_of_an_image_has_a_figure_for_each_patch() -> None:
    told = ImageShape("flat", 4, 6, 1)
    made = Explainer(from_zero, {"x": np.zeros((1, 24))}, {"x": told})
    row = np.zeros((1, 24))
    row[0, 6 * 3 + 4] = 2.0  # row 3, column 4: the patch below, on the right
    made.note(seen(row, ["odd"]), np.array([True]))
    (heat,) = made.latest[0].heat
    assert (heat.input, heat.height, heat.width) == ("x", 4, 6)
    assert (heat.rows, heat.columns) == ((0, 2, 4), (0, 2, 4, 6))
    assert heat.changes[5] > 0
    assert not any(heat.changes[:5])
    assert made.latest[0].parts[0][0] == "x[2:4, 4:6]"
    assert made.latest[0].to_json()["heat"][0]["changes"][5] == heat.changes[5]


def test_flat_images_are_explained_as_images_where_the_setting_says_so() -> None:
    class Brightness:
        needs = frozenset({"inputs"})

        def fit(self, reference: Reference) -> None:
            pass

        def score(self, rows: Observed) -> Array:
            total: Array = rows.inputs["x"].sum(axis=1)
            return total

        def state(self) -> dict[str, Array]:
            return {}

        def restore(self, state: Mapping[str, Array]) -> None:
            pass

    signature = Signature((TensorSpec("x", "float64", (None, 64)),), ())
    setting = Setting(signature, images={"x": ImageShape("flat", 8, 8, 1)})
    made = Portfolio(setting, [Stake(ScoreMember("b", Brightness()), 1.0)], "anomaly")
    rows = np.random.default_rng(0).random((1000, 64))
    made.fit(Reference({"x": rows}))
    made.observe(seen(np.full((1, 64), 9.0), ["odd"]))
    (told,) = made.explanations
    assert len(told.heat[0].changes) == 16
    assert told.parts[0][0].startswith("x[")
    assert "," in told.parts[0][0]


def test_anomaly_check_explains_what_it_flags_by_its_own_score() -> None:
    class Distance:
        needs = frozenset({"inputs"})

        def fit(self, reference: Reference) -> None:
            self.mean = reference.inputs["x"].mean(axis=0)

        def score(self, rows: Observed) -> Array:
            distance: Array = ((rows.inputs["x"] - self.mean) ** 2).sum(axis=1)
            return distance

        def state(self) -> dict[str, Array]:
            return {"mean": self.mean}

        def restore(self, state: Mapping[str, Array]) -> None:
            self.mean = state["mean"]

    def check() -> Portfolio:
        stake = Stake(ScoreMember("distance", Distance()), 1.0)
        return Portfolio(Setting(signature), [stake], "anomaly")

    signature = Signature((TensorSpec("x", "float64", (None, 4)),), ())
    rows = np.random.default_rng(0).normal(size=(1000, 4))
    made = check()
    made.fit(Reference({"x": rows}))
    restarted = check()
    restarted.restore(made.state())
    odd = np.array([[0.1, 0.0, -50.0, 0.2]])
    for each in (made, restarted):
        each.observe(seen(odd, ["odd"]))
        (told,) = each.explanations
        assert (told.id, told.parts[0][0]) == ("odd", "x[2]")
        assert told.parts[0][1] == pytest.approx(told.score - told.typical, rel=0.01)
