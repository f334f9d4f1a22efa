from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.checks.statistics.comparison import Histograms
from scanflow_serve.runtime.checks.statistics.mmd import MeanDiscrepancy


def brute_force(x: np.ndarray, y: np.ndarray, width: float) -> float:
    def similar(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / width))

    n, m = len(x), len(y)
    xx = sum(similar(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    yy = sum(similar(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    xy = sum(similar(a, b) for a in x for b in y)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def test_discrepancy_is_its_definition_however_rows_come() -> None:
    rng = np.random.default_rng(0)
    reference, live = rng.normal(size=(30, 3)), rng.normal(0.5, size=(20, 3))
    window = MeanDiscrepancy(reference, window=20)
    for low, high in [(0, 1), (1, 12), (12, 12), (12, 20)]:
        window.add(live[low:high])
    x, y = ((each - reference.mean(axis=0)) / reference.std(axis=0) for each in (reference, live))
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=2)[np.triu_indices(30, 1)]
    assert window.compare().statistic[0] == pytest.approx(brute_force(x, y, np.median(squares)))


def test_p_values_of_clean_windows_are_at_least_uniform() -> None:
    rng = np.random.default_rng(1)
    p = []
    for seed in range(80):
        window = MeanDiscrepancy(rng.normal(size=(60, 2)), window=30, seed=seed)
        window.add(rng.normal(size=(30, 2)))
        p.append(window.compare().p)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 80)
    assert np.mean(np.array(p) <= 0.5) >= 0.3
    assert min(p) >= 1 / 201


def test_correlation_that_marginals_cannot_see_is_seen() -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(500, 2))
    live = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=200)
    joint, marginal = MeanDiscrepancy(reference, window=200), Histograms(reference, "ks")
    joint.add(live)
    marginal.add(live)
    assert joint.compare().p == 1 / 201
    assert marginal.compare().p > 0.05


def test_large_reference_is_drawn_from_and_constant_features_do_no_harm() -> None:
    rng = np.random.default_rng(3)
    reference = np.concatenate([rng.normal(size=(3000, 1)), np.ones((3000, 1))], axis=1)
    window = MeanDiscrepancy(reference, window=60)
    window.add(reference[:60])
    assert window.compare().p > 0.01


def test_restored_and_cleared_windows_go_on_where_they_were() -> None:
    rng = np.random.default_rng(4)
    reference, live = rng.normal(size=(50, 2)), rng.normal(size=(40, 2))
    window, again = (MeanDiscrepancy(reference, window=40, seed=5) for _ in range(2))
    window.add(rng.normal(9, size=(40, 2)))
    window.clear()
    window.add(live[:25])
    again.restore(window.state())
    for each in (window, again):
        each.add(live[25:])
    assert again.rows == 40
    assert again.compare().statistic == pytest.approx(window.compare().statistic)


def test_rows_that_a_window_cannot_take_are_refused() -> None:
    window = MeanDiscrepancy(np.random.default_rng(5).normal(size=(20, 1)), window=3)
    with pytest.raises(ValueError, match=r"at most 3, got 4 or NaN"):
        window.add(np.zeros((4, 1)))
    with pytest.raises(ValueError, match=r"must be numbers and at most 3, got 1 or NaN"):
        window.add(np.array([[np.nan]]))


@pytest.mark.parametrize("reference", [np.zeros((1, 2)), np.array([[0.0], [np.nan]])])
def test_reference_without_a_kernel_is_refused(reference: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be finite, of at least 2 rows"):
        MeanDiscrepancy(reference, window=10)
