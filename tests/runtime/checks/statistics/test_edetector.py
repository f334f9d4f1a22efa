from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.edetector import EDetector, log_factors

# Of a prime, so that no product of factors is 1 but for rounding: then batches may break the tie.
P_VALUES = hnp.arrays(
    np.float64, st.integers(1, 50), elements=st.integers(0, 997).map(lambda whole: whole / 997)
)
A = 10_000


def names(rows: int, start: int = 0) -> list[str]:
    return [f"row-{row}" for row in range(start, start + rows)]


def alarm_after(p: np.ndarray, run_length: int = A, floor: float = 1 / 1202) -> int | None:
    """Return how many rows it took to alarm, None if it never did."""
    crossed = np.flatnonzero(EDetector(floor).update(p) >= np.log(run_length))
    return int(crossed[0]) + 1 if len(crossed) else None


@settings(deadline=None)
@given(p=P_VALUES)
def test_wealth_follows_the_published_recursion(p: np.ndarray) -> None:
    floor, epsilons = 1 / 402, np.array([0.3, 0.5, 0.7])
    sums = np.zeros((2, 3))
    path = EDetector(floor).update(p)
    for row, value in enumerate(p):
        for side, each in enumerate((value, 1 - value)):
            factor = epsilons * max(each, floor) ** (epsilons - 1)
            sums[side] = (sums[side] + 1) * factor
        assert np.exp(path[row]) == pytest.approx(sums.mean(), rel=1e-9)


@pytest.mark.parametrize("floor", [1e-4, 1 / 402, 0.1])
def test_factors_pay_at_most_one_on_average_for_uniform_p(floor: float) -> None:
    middle = (np.arange(200_000) + 0.5) / 200_000
    assert (np.exp(log_factors(middle, floor)).mean(axis=0) <= 1).all()


def test_one_wild_row_does_not_page() -> None:
    detector = EDetector(1 / 1202)
    detector.update(np.random.default_rng(0).random(1000))
    assert np.exp(detector.update(np.array([1e-300]))).item() < A


@pytest.mark.parametrize("scores", ["normal", "discrete"])
def test_mean_run_length_is_at_least_what_was_asked(scores: str) -> None:
    """Calibration sets are drawn afresh; 40 runs of at most 3,000 rows against A = 1,000."""
    rng = np.random.default_rng(7)
    runs = []
    for _ in range(40):
        draw = rng.normal(size=3200) if scores == "normal" else rng.poisson(3, 3200).astype(float)
        calibration = Calibration.fit(draw[:200])
        p = calibration.p_values(draw[200:], rng)
        runs.append((alarm_after(p, 1000, calibration.floor) or 3000, 3000))
    rows = sum(run for run, _ in runs)
    alarms = sum(run < most for run, most in runs)
    # Exponential MLE, its lower 95 % bound by the normal approximation of log.
    assert rows / max(alarms, 1) * np.exp(-1.645 / np.sqrt(max(alarms, 1))) >= 0.8 * 1000


@pytest.mark.parametrize(("shift", "most"), [(3.0, 6), (1.0, 40), (-1.0, 40)])
def test_shift_is_seen_soon_in_either_direction(shift: float, most: int) -> None:
    rng = np.random.default_rng(8)
    delays = []
    for _ in range(15):
        calibration = Calibration.fit(rng.normal(size=600))
        clean, shifted = rng.normal(size=200), rng.normal(shift, size=300)
        detector = EDetector(calibration.floor)
        detector.update(calibration.p_values(clean, rng))
        path = detector.update(calibration.p_values(shifted, rng))
        delays.append(int(np.argmax(path >= np.log(A))) + 1)
        assert path.max() >= np.log(A)
        assert detector.high == (shift > 0)
    assert np.median(delays) <= most


def test_change_point_and_telling_rows_are_those_of_the_drift() -> None:
    rng = np.random.default_rng(9)
    detector = EDetector(1 / 1202)
    detector.update(rng.random(5000), names(5000))
    drifted = rng.random(100) ** 4
    for low in range(0, 100, 10):
        ids = names(10, 5000 + low)
        detector.update(drifted[low : low + 10], ids, np.arange(10.0) + low)
    assert detector.change_point is not None
    assert abs(detector.change_point - 5000) <= 5
    assert detector.since == f"row-{detector.change_point}"
    assert len(detector.telling) == 20
    assert set(detector.telling) <= {f"row-{5000 + row}" for row in np.argsort(drifted)[:25]}


@settings(deadline=None)
@given(p=P_VALUES, data=st.data())
def test_batches_give_the_evidence_that_row_by_row_gives(
    p: np.ndarray, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(p)))
    ids = names(len(p))
    single, batched = EDetector(), EDetector()
    for row in range(len(p)):
        single.update(p[row : row + 1], ids[row : row + 1])
    batched.update(p[:cut], ids[:cut])
    batched.update(p[cut:], ids[cut:])
    assert batched.log_wealth == pytest.approx(single.log_wealth, rel=1e-9, abs=1e-9)
    assert batched.telling == single.telling
    assert batched.since == single.since


def test_strict_p_values_bet_on_each_side_by_themselves() -> None:
    detector = EDetector()
    detector.update(np.full(10, 0.01), low=np.ones(10))
    both = EDetector()
    both.update(np.full(10, 0.01))
    assert detector.wealth < both.wealth
    assert detector.wealth == pytest.approx(both.wealth, rel=0.01)


def test_blocks_count_as_the_rows_that_they_stand_for() -> None:
    detector = EDetector(rows_per_bet=50)
    detector.update(np.full(2, 0.5))
    assert detector.rows == 100


def test_state_goes_on_where_it_was_and_replicas_add_up() -> None:
    rng = np.random.default_rng(10)
    detector, again, replica = EDetector(), EDetector(), EDetector()
    detector.update(rng.random(100) ** 2, names(100))
    again.restore(detector.state())
    more = rng.random(30)
    assert np.array_equal(again.update(more, names(30, 100)), detector.update(more, names(30, 100)))
    assert again.telling == detector.telling
    replica.update(rng.random(100) ** 2, names(100, 900))
    wealth = again.wealth + replica.wealth
    again.merge([replica.state()])
    assert again.wealth == pytest.approx(wealth)
    assert again.rows == 230
    assert set(again.telling) <= set(detector.telling) | set(replica.telling)
    assert set(again.telling) & set(replica.telling)


def test_acknowledged_detector_alarms_again_if_the_drift_goes_on() -> None:
    detector = EDetector()
    detector.update(np.full(50, 0.01), names(50))
    detector.acknowledge()
    assert (detector.wealth, detector.telling, detector.change_point) == (0.0, (), None)
    detector.update(np.full(50, 0.01), names(50))
    assert detector.wealth >= A


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.5])
def test_what_is_no_p_value_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"in \[0, 1\], got {wrong}\. Rank finite scores\."):
        EDetector().update(np.array([0.5, wrong]))
