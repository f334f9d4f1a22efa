from __future__ import annotations

from math import inf, log

import numpy as np
import pytest

from scanflow_serve.runtime.checks.statistics.edetector import EDetector
from scanflow_serve.runtime.checks.statistics.portfolio import standing

HALVES = {"drift": 0.5, "balance": 0.5}


def test_model_alarms_on_the_weighted_sum_and_names_the_cause() -> None:
    found = standing({"drift": log(30_000), "balance": log(10)}, HALVES, 10_000)
    assert found.alarm
    assert found.alarming == ("drift",)
    assert found.wealth == pytest.approx(15_005)
    assert list(found.shares) == ["drift", "balance"]
    assert sum(found.shares.values()) == pytest.approx(1)


def test_two_detectors_may_alarm_together_where_neither_does_alone() -> None:
    found = standing({"drift": log(12_000), "balance": log(9_000)}, HALVES, 10_000)
    assert found.alarm
    assert found.alarming == ()


def test_nothing_is_known_before_the_first_row() -> None:
    found = standing({"drift": -inf, "balance": -inf}, HALVES, 10_000)
    assert (found.wealth, found.alarm) == (0.0, False)
    assert found.shares == {"drift": 0.0, "balance": 0.0}
    assert not standing({}, {}, 10).alarm


def test_model_of_many_detectors_keeps_one_run_length_even_if_all_see_the_same() -> None:
    """Five copies of one detector are one: a union bound is not needed, nor is independence."""
    rng = np.random.default_rng(0)
    names = tuple("abcde")
    weights = dict.fromkeys(names, 0.2)
    detectors = {name: EDetector() for name in names}
    p = rng.random(500)
    for detector in detectors.values():
        detector.update(p)
    found = standing({n: d.log_wealth for n, d in detectors.items()}, weights, 10_000)
    assert found.wealth == pytest.approx(detectors["a"].wealth)
