from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from scanflow_serve.runtime.checks.statistics.bins import BINS, Bins
from scanflow_serve.runtime.checks.statistics.distances import (
    DISTANCES,
    Distance,
    chi_squared_tail,
)


def distance(method: str, reference: np.ndarray, live: np.ndarray) -> Distance:
    bins = Bins.fit(reference)
    return DISTANCES[method](bins.before, bins.counts(live), bins.centres)


def tenths(counts: np.ndarray) -> np.ndarray:
    return counts.reshape(-1, 10, 2).sum(axis=2)


def few(seed: int, rows: int, shift: float = 0.0) -> np.ndarray:
    """Return values of which there are few: then bins lose nothing."""
    return np.random.default_rng(seed).poisson(3 + shift, size=(rows, 1)).clip(0, 7) * 1.0


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_statistics_of_few_values_are_scipys(shift: float) -> None:
    reference, live = few(0, 600), few(1, 300, shift)
    ks = distance("ks", reference, live)
    oracle = stats.ks_2samp(reference[:, 0], live[:, 0])
    assert ks.statistic[0] == pytest.approx(oracle.statistic)
    moved = distance("wasserstein", reference, live)
    assert moved.statistic[0] * reference.std() == pytest.approx(
        stats.wasserstein_distance(reference[:, 0], live[:, 0])
    )
    table = np.array([np.bincount(x[:, 0].astype(int), minlength=8) for x in (reference, live)])
    chi2 = distance("chi2", reference, live)
    expected = stats.chi2_contingency(table, correction=False)
    assert chi2.statistic[0] == pytest.approx(expected.statistic)
    assert np.log(chi2.p[0]) == pytest.approx(np.log(expected.pvalue), rel=0.05)
    js = distance("js", reference, live)
    assert js.statistic[0] == pytest.approx(jensenshannon(table[0], table[1], base=2))


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.4])
def test_statistics_of_many_values_are_close_to_those_without_bins(shift: float) -> None:
    rng = np.random.default_rng(2)
    reference, live = rng.normal(size=(2000, 1)), rng.normal(shift, size=(500, 1))
    ks, exact = distance("ks", reference, live), stats.ks_2samp(reference[:, 0], live[:, 0])
    assert ks.statistic[0] == pytest.approx(exact.statistic, abs=0.02)
    assert np.log(ks.p[0]) == pytest.approx(np.log(exact.pvalue), abs=1.5)
    moved = distance("wasserstein", reference, live).statistic[0]
    assert moved == pytest.approx(stats.wasserstein_distance(reference[:, 0], live[:, 0]), abs=0.03)


def test_population_stability_is_its_definition_with_half_a_row_added() -> None:
    rng = np.random.default_rng(3)
    bins = Bins.fit(rng.normal(size=(1000, 2)))
    counts = bins.counts(rng.normal(0.3, size=(400, 2)))
    p, q = (tenths(each) + 0.5 for each in (bins.before, counts))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    expected = ((p - q) * np.log(p / q)).sum(axis=1)
    found = DISTANCES["psi"](bins.before, counts, bins.centres)
    assert found.statistic == pytest.approx(expected)
    assert found.p == pytest.approx(stats.chi2.sf(expected / (1 / 1000 + 1 / 400), 9), rel=0.1)


@settings(deadline=None)
@given(x=st.floats(0, 60), freedom=st.integers(2, 30))
def test_chi_squared_tail_is_scipys_where_it_decides(x: float, freedom: int) -> None:
    found = chi_squared_tail(np.array([x]), np.array([freedom]))[0]
    assert found == pytest.approx(stats.chi2.sf(x, freedom), rel=0.25, abs=0.006)


def test_chi_squared_tail_of_one_degree_is_exact_and_of_none_is_one() -> None:
    x = np.array([0.0, 3.84, 20.0, 5.0])
    found = chi_squared_tail(x, np.array([1, 1, 1, 0]))
    assert found[:3] == pytest.approx(stats.chi2.sf(x[:3], 1))
    assert found[3] == 1.0


KINDS = {
    "normal": lambda rng, n: rng.normal(size=(n, 600)),
    "counts": lambda rng, n: rng.poisson(3, size=(n, 600)) * 1.0,
    "two values": lambda rng, n: (rng.random((n, 600)) < 0.3) * 1.0,
    "mostly zero": lambda rng, n: np.maximum(rng.normal(size=(n, 600)), 0),
}


@pytest.mark.parametrize("method", DISTANCES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [50, 200, 800])
def test_clean_windows_of_any_size_are_odd_as_often_as_is_said(
    method: str, kind: str, window: int
) -> None:
    """Of 600 features with references of their own; 3 to 7 % to within 2 standard errors."""
    rng = np.random.default_rng(4)
    p = distance(method, KINDS[kind](rng, 600), KINDS[kind](rng, window)).p
    error = 2 * np.sqrt(0.05 * 0.95 / 600)
    assert 0.03 - error <= (p <= 0.05).mean() <= 0.07 + error
    assert (p <= 0.001).mean() <= 0.005


@pytest.mark.parametrize("method", ["ks", "chi2", "psi", "js"])
def test_rare_value_cries_no_more_often_than_is_said(method: str) -> None:
    rng = np.random.default_rng(5)
    reference, live = (rng.random((n, 2000)) < 0.01 for n in (600, 50))
    share = (distance(method, reference * 1.0, live * 1.0).p <= 0.01).mean()
    assert share <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 2000)


@pytest.mark.parametrize("method", DISTANCES)
def test_rare_value_that_becomes_frequent_is_seen(method: str) -> None:
    rng = np.random.default_rng(6)
    reference, live = (rng.random((600, 1)) < 0.01) * 1.0, (rng.random((200, 1)) < 0.3) * 1.0
    assert distance(method, reference, live).p[0] < 1e-6


@pytest.mark.parametrize("method", ["ks", "chi2", "psi", "js"])
def test_constant_that_changes_is_seen_and_one_that_stays_is_not(method: str) -> None:
    found = distance(
        method, np.full((100, 2), 3.0), np.stack([np.full(60, 3.0), np.full(60, 4.0)], axis=1)
    )
    assert found.p[0] == 1.0
    assert found.p[1] < 1e-6


@settings(deadline=None)
@given(seed=st.integers(0, 50), method=st.sampled_from(sorted(DISTANCES)))
def test_p_values_lie_between_0_and_1_and_distances_are_not_negative(
    seed: int, method: str
) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, rng.integers(1, 40), size=(80, 5)) * 1.0
    found = distance(method, reference, rng.integers(0, 50, size=(55, 5)) * 1.0)
    assert ((found.p >= 0) & (found.p <= 1)).all()
    assert (found.statistic >= 0).all()
    assert found.p.shape == (5,)
    assert BINS == 20
