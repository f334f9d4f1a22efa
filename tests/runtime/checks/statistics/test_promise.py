from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.promise import (
    beta_quantile,
    flag_band,
    flags_each_side,
    outlier_limits,
    require_rate,
)


@settings(deadline=None)
@given(a=st.integers(1, 200), b=st.integers(1, 5000), q=st.floats(0.001, 0.999))
def test_beta_quantile_is_scipys(a: int, b: int, q: float) -> None:
    assert beta_quantile(a, b, q) == pytest.approx(stats.beta.ppf(q, a, b), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(
    n=st.integers(200, 3000),
    rows=st.integers(1, 1000),
    alpha=st.sampled_from([0.01, 0.05, 0.1, 0.5]),
    confidence=st.sampled_from([0.95, 0.99]),
)
def test_band_of_flagged_rows_is_the_beta_binomials(
    n: int, rows: int, alpha: float, confidence: float
) -> None:
    rank = flags_each_side(n, alpha)
    band = flag_band(n, rows, alpha, confidence)
    oracle = stats.betabinom(rows, 2 * rank, n + 1 - 2 * rank)
    low, high = oracle.ppf((1 - confidence) / 2), oracle.ppf((1 + confidence) / 2)
    # scipy's own sum may fall on the other side of a tail that is met exactly.
    assert abs(band.low - low) <= 1
    assert abs(band.high - high) <= 1
    assert oracle.cdf(band.high) - oracle.cdf(band.low - 1) >= confidence - 1e-9


@settings(deadline=None)
@given(n=st.integers(19, 500), alpha=st.sampled_from([0.1, 0.2]), seed=st.integers(0, 99))
def test_rows_outside_the_limits_are_those_of_small_two_sided_p(
    n: int, alpha: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    calibration = Calibration.fit(rng.integers(-50, 50, n).astype(float))
    scores = rng.integers(-60, 60, 200).astype(float)
    limits = outlier_limits(calibration, alpha)
    outside = (scores < limits.low) | (scores > limits.high)
    assert np.array_equal(outside, calibration.two_sided_p_values(scores) <= alpha + 1e-12)


def test_limits_publish_the_rate_that_this_set_may_have() -> None:
    limits = outlier_limits(Calibration.fit(np.arange(600.0)), 0.01)
    assert (limits.low, limits.high) == (2.0, 597.0)
    assert limits.rate == pytest.approx(6 / 601)
    assert (limits.rate_low, limits.rate_high) == pytest.approx((0.0037, 0.0193), abs=2e-4)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_published_interval_holds_the_true_rate_of_nineteen_sets_in_twenty(alpha: float) -> None:
    rng = np.random.default_rng(1)
    within, rates = 0, []
    for _ in range(300):
        limits = outlier_limits(Calibration.fit(rng.normal(size=300)), alpha)
        rate = stats.norm.cdf(limits.low) + stats.norm.sf(limits.high)
        within += bool(limits.rate_low <= rate <= limits.rate_high)
        rates.append(rate)
    assert abs(within / 300 - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / 300)
    assert abs(np.mean(rates) - limits.rate) <= 3 * np.std(rates) / np.sqrt(300)


def test_too_few_rows_for_a_small_share_are_refused_with_the_number_needed() -> None:
    assert flags_each_side(199, 0.01) == 1
    with pytest.raises(ValueError, match=r"rows must be >= 199 to flag 0\.01 of rows, got 198"):
        outlier_limits(Calibration.fit(np.arange(198.0)), 0.01)


def refused(calibration: np.ndarray, kept_back: np.ndarray) -> bool:
    try:
        require_rate("drift", Calibration.fit(calibration), kept_back)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_clean_rows_kept_back_bear_the_promise_out_99_times_in_100(kind: str) -> None:
    rng = np.random.default_rng(2)
    times = 0
    for _ in range(500):
        rows = rng.normal(size=300) if kind == "continuous" else rng.poisson(1.0, 300) * 1.0
        times += refused(rows[:225], rows[225:])
    assert times <= 5 + 3 * np.sqrt(5)


def test_rows_kept_back_that_differ_are_refused_with_the_counts() -> None:
    rng = np.random.default_rng(3)
    calibration = Calibration.fit(rng.normal(size=300))
    with pytest.raises(
        ValueError,
        match=r"drift: of 100 rows kept back, \d+ to \d+ must be flagge"
        r"d at 0\.01, got \d+\. The reference is not of one kind",
    ):
        require_rate("drift", calibration, rng.normal(size=100) * 3)


def test_scores_of_the_fitted_rows_do_not_bear_the_promise_out() -> None:
    """Errors of a reconstructor are smaller on the rows that it was fitted to."""
    rng = np.random.default_rng(4)
    assert refused(rng.normal(size=600) * 0.3, rng.normal(size=200))


def test_rows_that_are_too_much_alike_are_refused_too() -> None:
    rng = np.random.default_rng(5)
    assert refused(rng.normal(size=600), rng.normal(size=200) * 0.3)
