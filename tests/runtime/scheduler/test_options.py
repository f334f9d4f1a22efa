"""From a plan's figures to what the scheduler chooses between."""

from __future__ import annotations

import pytest
from planning_worlds import candidate, measurement

from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.scheduler.jobs import GOALS, Goal, Option
from scanflow_serve.runtime.scheduler.options import TIE, options

FIGURES = {
    "small/onnxruntime-fp32x1": measurement(1.0, 0.90),
    "knee/onnxruntime-fp32x2": measurement(2.0, 0.97),
    "large/onnxruntime-fp32x1": measurement(9.0, 0.98),
}


def made(goal: str = "accuracy", **more: Measurement | None) -> tuple[Option, ...]:
    known = {**FIGURES, **more}
    return options([(candidate(text), figures) for text, figures in known.items()], goal, 32)


def order(found: tuple[Option, ...], goal: Goal) -> list[str]:
    ranked = sorted(found, key=lambda option: -option.worth[goal])
    return [option.models[0] for option in ranked]


@pytest.mark.parametrize(
    ("goal", "models"),
    [
        ("objective", ["large", "knee", "small"]),
        ("accuracy", ["large", "knee", "small"]),
        ("latency", ["small", "knee", "large"]),
    ],
)
def test_options_are_ordered_by_what_the_goal_means(goal: Goal, models: list[str]) -> None:
    assert order(made(), goal) == models


def test_balanced_puts_the_knee_of_the_frontier_first() -> None:
    assert order(made(), "balanced")[0] == "knee"


def test_objective_is_the_policys() -> None:
    assert order(made("latency_p95_ms"), "objective") == ["small", "knee", "large"]
    assert made("latency_p95_ms")[0].models == ("small",)


def test_worth_is_in_the_unit_of_the_figure_higher_better() -> None:
    small = next(option for option in made() if option.models == ("small",))
    assert small.worth["accuracy"] == pytest.approx(0.90)
    assert small.worth["latency"] == pytest.approx(-1.0)


def test_what_only_a_tie_break_tells_apart_differs_by_the_tie_alone() -> None:
    found = made(**{"twin/onnxruntime-fp32x1": measurement(9.0, 0.98)})
    first, second = sorted(found, key=lambda option: -option.worth["accuracy"])[:2]
    assert first.worth["accuracy"] - second.worth["accuracy"] == pytest.approx(TIE, rel=0.1)


def test_option_without_figures_comes_last_and_still_answers() -> None:
    found = made(**{"new/onnxruntime-fp32x1": None})
    for goal in GOALS:
        assert order(found, goal)[-1] == "new"
    new = next(option for option in found if option.models == ("new",))
    assert new.accuracy is None
    assert new.curve.p50_ms(1) > 0


def test_threads_are_those_of_the_widest_variant() -> None:
    assert {option.models[0]: option.threads for option in made()} == {
        "small": 1,
        "knee": 2,
        "large": 1,
    }
