"""How long a run a calibration set of so many rows honours, and what being strict costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from parallel import Workers
from traffic import Random

from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.edetector import EDetector
from scanflow_serve.runtime.checks.statistics.splits import RUN_LENGTH_PER_ROW

SIZES = (100, 200, 500, 2000, 5000)
SHORT, LONG = 10_000, 1_000_000  # rows: run lengths that are asked for
CENSORED = 2  # times the run length that is asked for
BATCH = 5000  # rows at once
DELAYS = 50  # streams whose scores move by one standard deviation
CALM = 500


@dataclass(frozen=True, slots=True)
class Trial:
    """One calibration set of normal scores; *streams* see fresh rows each."""

    rows: int
    run_length: int
    seed: int
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """What sets of one size do.

    Attributes:
        honoured: Run length that the product promises with it, at most.
        short: Mean rows to an alarm where `SHORT` are asked for.
        short_early: Share of alarms in the first tenth of that; a set's own luck shows here.
        long: Mean rows where `LONG` are asked for; 0 where it was not tried.
        long_early: Share of alarms in the first tenth of that.
        delay: Median rows until a shift by one standard deviation is seen, at `SHORT`.
        strict_delay: The same with ``strict: true``; inf where most never are.
    """

    rows: int
    honoured: int
    short: float
    short_early: float
    long: float
    long_early: float
    delay: float
    strict_delay: float


def sizes(workers: Workers, runs: int, long_runs: int) -> list[Size]:
    """Return what sets of each of `SIZES` do."""
    found = []
    for rows in SIZES:
        short = workers.map(run, _trials(rows, SHORT, runs))
        long = workers.map(run, _trials(rows, LONG, long_runs))
        found.append(
            Size(
                rows=rows,
                honoured=RUN_LENGTH_PER_ROW * rows,
                short=_mean(short),
                short_early=_early(short, SHORT),
                long=_mean(long),
                long_early=_early(long, LONG),
                delay=_delay(workers, rows, strict=False),
                strict_delay=_delay(workers, rows, strict=True),
            )
        )
    return found


def _trials(rows: int, run_length: int, runs: int) -> list[Trial]:
    return [Trial(rows, run_length, seed) for seed in range(runs)]


def _mean(found: list[tuple[int, bool]]) -> float:
    alarms = sum(alarmed for _, alarmed in found)
    return sum(rows for rows, _ in found) / alarms if alarms else float("inf") if found else 0.0


def _early(found: list[tuple[int, bool]], run_length: int) -> float:
    early = [alarmed and rows <= run_length / 10 for rows, alarmed in found]
    return float(np.mean(early)) if early else 0.0


def _delay(workers: Workers, rows: int, *, strict: bool) -> float:
    trials = [Trial(rows, SHORT, seed, strict) for seed in range(DELAYS)]
    return float(np.quantile(workers.map(delay, trials), 0.5, method="higher"))


def run(trial: Trial) -> tuple[int, bool]:
    """Return the rows until a false alarm, or until the end, and whether there was one."""
    bet = _Bet(trial)
    for start in range(0, CENSORED * trial.run_length, BATCH):
        path = bet.on(bet.random.normal(size=BATCH))
        over = np.flatnonzero(path >= np.log(trial.run_length))
        if len(over):
            return start + int(over[0]) + 1, True
    return CENSORED * trial.run_length, False


def delay(trial: Trial) -> float:
    """Return the rows until a shift by one standard deviation is seen; inf after 5,000."""
    bet = _Bet(trial)
    bet.on(bet.random.normal(size=CALM))
    path = bet.on(bet.random.normal(1.0, size=BATCH))
    over = np.flatnonzero(path >= np.log(trial.run_length))
    return float(over[0] + 1) if len(over) else float("inf")


class _Bet:
    """A detector of scores, calibrated on rows of its own."""

    def __init__(self, trial: Trial) -> None:
        self.random: Random = np.random.default_rng([trial.rows, trial.seed, 41])
        self._calibration = Calibration.fit(self.random.normal(size=trial.rows))
        self._detector = EDetector(floor=self._calibration.floor)
        self._strict = trial.strict

    def on(self, scores: np.ndarray) -> np.ndarray:
        """Return log wealth after each of *scores*."""
        if self._strict:
            high, low = self._calibration.strict_p_values(scores)
            return self._detector.update(high, low=low)
        return self._detector.update(self._calibration.p_values(scores, self.random))
