from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.edetector import EDetector
from scanflow_serve.runtime.checks.statistics.strata import StratifiedCalibration, hours_of_day

A = 10_000


def cycle(at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return scores that move by two standard deviations with the hour of the day."""
    return rng.normal(size=len(at)) + 2 * np.sin(2 * np.pi * hours_of_day(at) / 24)


def test_hours_of_day_are_those_of_the_clock_before_and_after_1970() -> None:
    assert hours_of_day(np.array([-1.0, 1.7e9])).tolist() == [23, 22]


def test_daily_cycle_alarms_against_all_hours_and_not_against_its_own() -> None:
    rng = np.random.default_rng(0)
    past, live = rng.uniform(0, 86_400 * 30, 4800), np.arange(5000) * 60.0  # a row a minute
    scores, now = cycle(past, rng), cycle(live, rng)
    pooled, own = EDetector(), EDetector()
    path = pooled.update(Calibration.fit(scores).p_values(now, rng))
    assert path.max() >= np.log(A)
    calibration = StratifiedCalibration.fit(scores, hours_of_day(past))
    path = own.update(calibration.p_values(now, hours_of_day(live), rng))
    assert path.max() < np.log(A)


def test_each_row_is_ranked_among_its_own_stratum() -> None:
    scores = np.concatenate([np.arange(199.0), 1000 + np.arange(199.0)])
    strata = np.repeat(["night", "day"], 199)
    calibration = StratifiedCalibration.fit(scores, strata)
    p = calibration.two_sided_p_values(np.array([99.0, 99.0]), np.array(["night", "day"]))
    assert p.tolist() == pytest.approx([1.0, 0.01])


def test_small_strata_share_a_set_and_new_ones_are_ranked_among_them() -> None:
    scores = np.concatenate([np.zeros(300), np.arange(120.0)])
    strata = np.concatenate([np.repeat("a", 300), np.tile(["b", "c", "d"], 40)])
    calibration = StratifiedCalibration.fit(scores, strata)
    assert set(calibration.strata) == {"a"}
    assert calibration.rest.rows == 120
    assert calibration.rows == 120
    assert calibration.floor == 1 / 242
    p = calibration.two_sided_p_values(np.array([500.0, 500.0]), np.array(["b", "new"]))
    assert p[0] == p[1] == pytest.approx(2 / 121)


def test_strata_too_small_even_together_are_ranked_among_all_rows() -> None:
    calibration = StratifiedCalibration.fit(np.arange(130.0), np.repeat([0, 1], [120, 10]))
    assert calibration.rest.rows == 130
