from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.checks.statistics.bins import Bins
from scanflow_serve.runtime.checks.statistics.comparison import Comparison, Histograms, compare
from scanflow_serve.runtime.checks.statistics.distances import DISTANCES


def rows(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    """Return rows of twelve features, of which the seventh and the third move, that one more."""
    values = np.random.default_rng(seed).normal(size=(n, 12))
    values[:, 7] += shift
    values[:, 3] += shift / 2
    return values


@pytest.mark.parametrize("method", DISTANCES)
def test_features_that_moved_most_come_first_and_others_are_not_blamed(method: str) -> None:
    window = Histograms(rows(0, 1000), method)
    window.add(rows(1, 250, 1.0))
    window.add(rows(2, 250, 1.0))
    found = window.compare()
    assert found.rows == 500
    assert found.moved(0.001) == 2
    assert found.p == found.p_values.min()
    assert found.p < 1e-6
    assert np.flatnonzero(found.q_values < 0.001).tolist() == [3, 7]


def test_cleared_window_begins_from_nothing() -> None:
    window = Histograms(rows(0, 1000), "ks")
    window.add(rows(1, 250, 3.0))
    window.clear()
    window.add(rows(2, 250))
    assert window.compare().rows == 250
    assert window.compare().p > 0.01


def test_huge_windows_do_not_make_a_tiny_move_a_drift_by_psi() -> None:
    rng = np.random.default_rng(3)
    bins = Bins.fit(rng.normal(size=(200_000, 1)))
    counts = bins.counts(rng.normal(0.03, size=(200_000, 1)))
    assert DISTANCES["psi"](bins.before, counts, bins.centres).p[0] < 1e-6
    assert compare(bins, counts, "psi").p == 1.0


def test_comparison_and_open_window_are_the_same_after_a_restart() -> None:
    window, again = (Histograms(rows(0, 500), "js") for _ in range(2))
    window.add(rows(1, 100))
    again.restore(window.state())
    for each in (window, again):
        each.add(rows(2, 100))
    found, kept = window.compare(), Comparison.restore(again.compare().state())
    assert (kept.rows, kept.p) == (found.rows, found.p)
    assert np.array_equal(kept.p_values, found.p_values)
    assert kept.moved() == found.moved()
