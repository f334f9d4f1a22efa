"""The drift benchmark counts what it should, its tables say so, and it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import drift
import drift_tables
import numpy as np
import pytest
from dependent_streams import Kept
from image_shifts import PICTURES, pictures_moved, shifts
from quiet_streams import Quiet, Run, summary
from sequence_streams import CHANGES
from shifted_streams import Outcome, summed
from traffic import autoregressive, bundled, daily, sines
from watched import RUN_LENGTH, Watched
from window_limits import Rate
from window_power import PORTFOLIO, SIZES, TESTS, Power

ROOT = Path(__file__).parents[2]
INFINITE = float("inf")


def run(rows: int, alarmed: bool = True) -> Run:
    return Run("digits", rows, alarmed, "pca" if alarmed else "")


def quiet(lower: float, passed: float = 0.9) -> Quiet:
    return Quiet(200, 100, lower * 1.2, lower, passed, 0.73)


def test_mean_is_of_all_rows_over_the_alarms_and_ended_runs_count() -> None:
    found = summary([run(4000), run(30_000, alarmed=False)])
    assert (found.runs, found.alarms, found.mean) == (2, 1, 34_000.0)


def test_lower_bound_covers_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    below = 0
    for _ in range(300):
        lengths = random.exponential(20_000, 40)
        runs = [run(int(min(each, 30_000)), bool(each < 30_000)) for each in lengths]
        below += summary(runs).lower < 20_000
    assert 0.90 < below / 300 < 0.99


def test_run_that_alarms_late_has_passed_the_first_rows() -> None:
    assert summary([run(400), run(2000), run(30_000, alarmed=False)]).passed == pytest.approx(2 / 3)


def test_missed_changes_are_infinite_delays_and_early_alarms_are_none() -> None:
    outcomes = [Outcome(3, "pca"), Outcome(5, "ks"), Outcome(9, "ks"), Outcome(INFINITE)]
    found = summed("noise", "pca", [*outcomes, Outcome(None)], aim=5)
    assert (found.median, found.p90, found.missed, found.early) == (9, INFINITE, 1, 1)
    assert found.cause == "ks"


def test_aim_of_the_worst_set_is_not_hidden_by_the_others() -> None:
    sets = {"digits": quiet(9000), "wine": quiet(7000, passed=0.5), "all": quiet(11_000)}
    verdicts = {aim.text: aim.met for aim in drift_tables.quiet_aims(sets)}
    assert verdicts["the worst set: wine"] is False
    assert sum(verdicts.values()) == 3  # of all sets together, and of warnings


@pytest.mark.parametrize(
    ("mean", "warned", "verdict"),
    [(500, 2, "taken back"), (500, 1, "**broken**"), (20_000, 0, "kept")],
)
def test_promise_is_broken_only_where_nobody_took_it_back(
    mean: float, warned: int, verdict: str
) -> None:
    kept = Kept("AR(1)", 2, 0, warned, "", Quiet(2, 2, mean, mean, 0.0, 0.4))
    assert kept.verdict == verdict
    (aim,) = drift_tables.dependent_aims([kept])
    assert aim.met is (verdict != "**broken**")


def test_refused_reference_makes_no_promise() -> None:
    assert Kept("AR(1)", 2, 2, 0, "why", None).verdict == "not made"


def test_portfolio_is_held_against_the_best_test_alone() -> None:
    def power(test: str, share: float) -> Power:
        shares = (share,) * len(SIZES)
        return Power(test, shares, (0.04,) * len(SIZES), 100, (share,))

    found = [power(TESTS[0], 0.9), power(TESTS[1], 0.2), power(PORTFOLIO, 0.8)]
    (missed,) = (aim for aim in drift_tables.power_aims(found) if not aim.met)
    assert "a test alone finds more than the portfolio" in missed.text
    assert missed.value == len(SIZES)


def test_limit_off_its_rate_counts() -> None:
    found = [Rate("ks", 0.05, 0.03, 0.07), Rate("psi", 0.09, 0.03, 0.07)]
    (aim,) = drift_tables.limit_aims(found)
    assert (aim.value, aim.met) == (1, False)
    assert "| psi | 9.00% | 3.0% to 7.0% | **not met** |" in drift_tables.limit_table(found)


def test_shifts_are_21_and_each_changes_what_it_says() -> None:
    digits, random = bundled("digits"), np.random.default_rng(0)
    found = shifts()
    assert len(found) == 21
    for name, shift in found.items():
        rows = shift(digits, random, 40)
        assert rows.shape == (40, 64), name
        assert rows.dtype == np.float32, name
    assert digits.answer is not None
    gone = found["a class stays away, 100%"](digits, random, 200)
    assert not (digits.answer(gone).argmax(axis=1) == 0).any()


def test_pictures_that_move_more_differ_more() -> None:
    rows = bundled("digits").draw(np.random.default_rng(0), 200)
    moved = [pictures_moved(rows, np.random.default_rng(1), most) for most in PICTURES.values()]
    small, medium, large = (float(np.abs(each - rows).mean()) for each in moved)
    assert small < medium < large


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_sequences_leave_each_channel_as_it_was(change: str) -> None:
    from scipy.stats import ks_2samp

    random = np.random.default_rng(0)
    before, after = sines(random, 16_000), sines(random, 16_000, **CHANGES[change])
    for channel in range(4):
        assert ks_2samp(before[:, channel], after[:, channel]).statistic < 0.02


def test_dependent_streams_depend_as_they_say() -> None:
    random = np.random.default_rng(0)
    rows = autoregressive(random, 20_000, 1)[:, 0]
    assert np.corrcoef(rows[1:], rows[:-1])[0, 1] == pytest.approx(0.9, abs=0.02)
    day = daily(random, 0, 24_000)[:, 0].reshape(10, 4, 600).mean(axis=(0, 2))
    assert day[0] > 0.5 > -0.5 > day[2]


def test_watched_digits_are_quiet_until_they_change() -> None:
    digits, random = bundled("digits"), np.random.default_rng(0)
    watched = Watched(digits, digits.draw(random, 2000), seed=0, method="pca")
    assert watched.run_length == RUN_LENGTH
    assert not watched.alarms(digits.draw(random, 400))
    assert watched.rows == 400
    assert watched.alarms(random.uniform(0, 16, (100, 64)).astype(np.float32))
    assert watched.cause() == "pca"


@pytest.mark.slow
def test_quick_run_prints_every_table_that_needs_no_training() -> None:
    sections = "quiet,dependent,limits,sizes"
    program = str(ROOT / "benchmarks/drift.py")
    ended = subprocess.run(
        [sys.executable, program, "--quick", "--processes", "1", "--only", sections],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for heading in ("| clean traffic |", "| clean, but rows depend |", "| clean | flagged |"):
        assert heading in ended.stdout
    assert f"{drift.QUICK.clean} streams of each set" in ended.stdout
