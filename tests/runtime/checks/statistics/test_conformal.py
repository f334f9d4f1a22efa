from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from scanflow_serve.runtime.checks.statistics.conformal import Calibration

SCORES = hnp.arrays(np.float64, st.integers(1, 30), elements=st.integers(-3, 3).map(float))


@settings(deadline=None)
@given(calibration=SCORES, scores=SCORES, seed=st.integers(0, 99))
def test_p_values_count_the_scores_above_and_share_the_equal_ones(
    calibration: np.ndarray, scores: np.ndarray, seed: int
) -> None:
    drawn = 1 - np.random.default_rng(seed).random(len(scores))
    p = Calibration.fit(calibration).p_values(scores, np.random.default_rng(seed))
    high, low = Calibration.fit(calibration).conservative_p_values(scores)
    n = len(calibration)
    for row, score in enumerate(scores):
        above, equal = (calibration > score).sum(), (calibration == score).sum()
        assert p[row] == pytest.approx((above + drawn[row] * (equal + 1)) / (n + 1))
        assert high[row] == pytest.approx((above + equal + 1) / (n + 1))
        assert low[row] == pytest.approx(((calibration <= score).sum() + 1) / (n + 1))
        assert 0 < p[row] <= high[row] <= 1


def exchangeable(seed: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return 4,000 calibration sets of 19 scores, and one more score of each."""
    rng = np.random.default_rng(seed)
    drawn = {
        "normal": lambda: rng.normal(size=(4000, 20)),
        "discrete": lambda: rng.integers(0, 4, size=(4000, 20)).astype(float),
        "mostly zero": lambda: np.maximum(rng.normal(size=(4000, 20)) - 1, 0),
    }[kind]()
    return drawn[:, :19], drawn[:, 19]


@pytest.mark.parametrize("kind", ["normal", "discrete", "mostly zero"])
def test_p_values_of_exchangeable_rows_are_uniform_ties_or_not(kind: str) -> None:
    rng = np.random.default_rng(0)
    sets, scores = exchangeable(1, kind)
    p = [
        Calibration.fit(each).p_values(score[None], rng)[0]
        for each, score in zip(sets, scores, strict=True)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("kind", ["normal", "discrete", "mostly zero"])
def test_conservative_p_values_are_at_least_uniform_on_both_sides(kind: str) -> None:
    sets, scores = exchangeable(2, kind)
    for side in (0, 1):
        p = np.array(
            [
                Calibration.fit(each).conservative_p_values(score[None])[side][0]
                for each, score in zip(sets, scores, strict=True)
            ]
        )
        for level in (0.05, 0.1, 0.25, 0.5):
            assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / len(p))


def test_two_sided_p_value_is_small_for_low_and_for_high_scores() -> None:
    calibration = Calibration.fit(np.arange(199.0))
    assert calibration.two_sided_p_values(np.array([-1.0, 99.0, 500.0])) == pytest.approx(
        [0.01, 1.0, 0.01]
    )


def test_strict_p_values_hold_given_almost_every_calibration_set() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        calibration = Calibration.fit(rng.normal(size=100))
        # Exact distribution of p given this set: p steps at its scores only.
        grid = np.sort(np.concatenate([calibration.scores - 1e-9, calibration.scores + 1e-9]))
        high, low = calibration.strict_p_values(grid, delta=0.05)
        held += bool((stats.norm.sf(grid) <= high).all() and (stats.norm.cdf(grid) <= low).all())
    assert held >= 200 * 0.95 - 3 * np.sqrt(200 * 0.05 * 0.95)


def test_p_values_do_not_depend_on_the_unit_of_the_score() -> None:
    rng = np.random.default_rng(5)
    reference, live = rng.normal(size=300), rng.normal(size=50)
    p = [
        Calibration.fit(reference * unit).p_values(live * unit, np.random.default_rng(6))
        for unit in (1.0, 1e-3, 1024.0)
    ]
    assert np.array_equal(p[0], p[1])
    assert np.array_equal(p[0], p[2])


def test_calibration_is_the_same_after_a_restart() -> None:
    calibration = Calibration.fit(np.random.default_rng(0).normal(size=50))
    again = Calibration.restore(calibration.state())
    assert np.array_equal(again.scores, calibration.scores)
    assert again.floor == 1 / 102


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_calibration_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"scores must be finite, got (nan|inf) in row 1\. Clean"):
        Calibration.fit(np.array([0.0, wrong]))


def test_calibration_on_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one number a row, got shape \(0,\)"):
        Calibration.fit(np.empty(0))


def test_live_nan_is_refused_with_its_row() -> None:
    with pytest.raises(ValueError, match=r"must be numbers, got nan in row 2\. Leave out the rows"):
        Calibration.fit(np.arange(9.0)).two_sided_p_values(np.array([1.0, np.inf, np.nan]))
