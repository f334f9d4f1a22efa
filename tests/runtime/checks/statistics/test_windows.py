from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.checks.statistics.windows import METHODS, WindowDetector

A = 10_000


def rows(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, size=(n, 4))


def names(n: int) -> list[str]:
    return [f"row-{row}" for row in range(n)]


@pytest.mark.parametrize("method", METHODS)
def test_drift_pages_within_a_few_windows_and_tells_since_when(method: str) -> None:
    detector = WindowDetector(rows(0, 600), method, window=100)
    clean = detector.update(rows(1, 1000), names(1000), np.arange(1000.0))
    assert clean.max() < np.log(A)
    ids = [f"late-{row}" for row in range(400)]
    path = detector.update(rows(2, 400, 1.0), ids, np.arange(1000.0, 1400.0))
    assert path.max() >= np.log(A)
    # Windows before that were a little odd by chance may be counted in.
    assert detector.change_point in (7, 8, 9, 10)
    assert detector.since_at == detector.change_point * 100.0
    assert detector.since == (
        "late-0" if detector.since_at == 1000 else f"row-{detector.since_at:.0f}"
    )
    assert detector.p_val is not None
    assert detector.p_val < 0.01
    assert detector.rows == 1400


@pytest.mark.parametrize("method", METHODS)
def test_one_window_however_wild_does_not_page(method: str) -> None:
    detector = WindowDetector(rows(0, 600), method)
    detector.update(rows(1, 200, 1e6))
    assert 0 < detector.wealth < A


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_any_size_give_the_same_windows(method: str) -> None:
    whole, parts = (WindowDetector(rows(0, 600), method, window=60) for _ in range(2))
    live = rows(1, 250, 0.3)
    path = whole.update(live, names(250))
    pieces = []
    for low in range(0, 250, 37):
        pieces.append(parts.update(live[low : low + 37], names(250)[low : low + 37]))
    assert np.concatenate(pieces)[59:] == pytest.approx(path[59:])
    assert parts.since == whole.since
    assert parts.gathered == whole.gathered == 10


def test_wealth_follows_the_recursion_over_windows() -> None:
    detector = WindowDetector(rows(0, 600), "chi2", window=50)
    sums = np.zeros(3)
    for seed in range(8):
        path = detector.update(rows(seed + 1, 50, 0.2))
        epsilons = np.array([0.3, 0.5, 0.7])
        assert detector.p_val is not None
        sums = (sums + 50) * epsilons * max(detector.p_val, 5e-4) ** (epsilons - 1)
        assert np.exp(path[-1]) == pytest.approx(sums.mean())
        assert len(set(path[:-1])) == 1


def test_mean_run_length_is_at_least_what_was_asked_with_references_drawn_afresh() -> None:
    """30 runs of at most 3,000 rows against 1,000, three features."""
    rng = np.random.default_rng(7)
    total = alarms = 0
    for _ in range(30):
        detector = WindowDetector(rng.normal(size=(600, 3)), "ks", window=50)
        crossed = np.flatnonzero(detector.update(rng.normal(size=(3000, 3))) >= np.log(1000))
        total += int(crossed[0]) + 1 if len(crossed) else 3000
        alarms += bool(len(crossed))
    assert total / max(alarms, 1) * np.exp(-1.645 / np.sqrt(max(alarms, 1))) >= 0.8 * 1000


def test_window_closes_at_its_age_and_counts_its_own_rows() -> None:
    detector = WindowDetector(rows(0, 600), "ks", window=200, max_age_s=60.0)
    detector.update(rows(1, 65), names(65), np.arange(65.0))
    assert detector.rows == 61
    assert detector.gathered == 4
    assert detector.comparison is not None
    assert detector.comparison.rows == 61


def test_window_of_few_rows_waits_beyond_its_age_for_enough_to_tell() -> None:
    detector = WindowDetector(rows(0, 600), "ks", window=200, max_age_s=1.0)
    live = rows(1, 80)
    for row in range(80):
        detector.update(live[row : row + 1], [str(row)], np.array([row * 10.0]))
    assert detector.rows == 50
    assert detector.gathered == 30
    whole = WindowDetector(rows(0, 600), "ks", window=200, max_age_s=1.0)
    whole.update(live, names(80), np.arange(80) * 10.0)
    assert whole.log_wealth == pytest.approx(detector.log_wealth)


@pytest.mark.parametrize("method", ["ks", "mmd"])
def test_state_goes_on_where_it_was_and_replicas_add_up(method: str) -> None:
    reference = rows(0, 300)
    detector, again, replica = (WindowDetector(reference, method, window=50) for _ in range(3))
    detector.update(rows(1, 130, 0.5), names(130), np.arange(130.0))
    again.restore(detector.state())
    assert again.p_val == detector.p_val
    assert (again.gathered, again.since, again.since_at) == (30, detector.since, detector.since_at)
    again.update(rows(2, 20))
    assert again.gathered == 0
    assert again.rows == 150
    replica.update(rows(3, 50))
    wealth = again.wealth + replica.wealth
    again.merge([replica.state()])
    assert again.wealth == pytest.approx(wealth)


def test_acknowledged_detector_begins_with_an_empty_window() -> None:
    detector = WindowDetector(rows(0, 300), "ks", window=50)
    assert WindowDetector(rows(0, 300), "ks").state().keys() == detector.state().keys()
    detector.update(rows(1, 70, 2.0), names(70))
    detector.acknowledge()
    assert (detector.wealth, detector.gathered, detector.p_val) == (0.0, 0, None)
    assert detector.since == ""
    assert detector.change_point is None


@pytest.mark.parametrize(
    ("method", "window", "rule"),
    [
        ("cvm", 200, r"one of ks, psi, chi2, js, wasserstein, mmd, got 'cvm'"),
        ("ks", 20, r"window must be >= 50 rows, got 20"),
    ],
)
def test_bad_settings_are_refused(method: str, window: int, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        WindowDetector(rows(0, 100), method, window=window)


def test_ids_of_another_number_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ids must be as many as rows = 3, got 1"):
        WindowDetector(rows(0, 100)).update(rows(1, 3), ["a"])
