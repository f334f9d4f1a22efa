"""Clean traffic of independent rows: how long until a false alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import exp, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parallel import Workers
from traffic import Population, Rows, populations
from watched import RUN_LENGTH, Watched, armed

CENSORED = 30_000  # rows after which a run ends
BATCH = 200  # rows shown at once; an alarm counts from the first of its batch
REFERENCE = 2000  # rows, 600 of them to calibrate on
LEAST_REFERENCE = 667  # rows: 200 to calibrate on, the fewest that honour the default run length
EARLY = 2000  # rows that a share e^(-EARLY / RUN_LENGTH) of runs must pass without an alarm


@dataclass(frozen=True, slots=True)
class Run:
    """One clean stream: rows until the alarm, or until it was ended.

    Attributes:
        warned: Whether the checks called their reference dependent.
    """

    population: str
    rows: int
    alarmed: bool
    cause: str = ""
    warned: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """A clean stream to be shown.

    Attributes:
        settings: Of the check, as a policy gives them.
    """

    population: str
    seed: int
    censored: int = CENSORED
    reference: int = REFERENCE
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quiet:
    """What runs together say.

    Attributes:
        mean: Maximum likelihood of exponential run lengths, rows; inf where nothing alarmed.
        lower: Its one-sided 95 % lower bound.
        passed: Share of runs without an alarm in the first `EARLY` rows.
        least: Share that passes at the promised rate, less 3 standard errors.
        warned: Runs whose reference was called dependent.
    """

    runs: int
    alarms: int
    mean: float
    lower: float
    passed: float
    least: float
    warned: int = 0


def summary(runs: Iterable[Run]) -> Quiet:
    """Return what *runs* say of the run length."""
    from scipy.stats import chi2

    found = list(runs)
    alarms, total = sum(run.alarmed for run in found), sum(run.rows for run in found)
    promised = exp(-EARLY / RUN_LENGTH)
    passed = np.mean([not run.alarmed or run.rows >= EARLY for run in found])
    return Quiet(
        runs=len(found),
        alarms=alarms,
        mean=total / alarms if alarms else float("inf"),
        lower=2 * total / float(chi2.ppf(0.95, 2 * alarms + 2)),
        passed=float(passed),
        least=promised - 3 * sqrt(promised * (1 - promised) / len(found)),
        warned=sum(run.warned for run in found),
    )


def independent(workers: Workers, runs: int, **given: Any) -> list[Run]:
    """Return *runs* clean streams of each population, each with fresh splits.

    Args:
        given: Of `Stream`.
    """
    names = [population.name for population in populations()]
    jobs = [
        Stream(name, run * len(names) + number, **given)
        for number, name in enumerate(names)
        for run in range(runs)
    ]
    return workers.map(until_alarm, jobs)


def until_alarm(stream: Stream) -> Run:
    """Return how long *stream* is without an alarm."""
    population = named(stream.population)
    watched = armed(population, stream.reference, stream.seed, **stream.settings)
    random = np.random.default_rng([stream.seed, 11])
    return run_of(
        population.name, watched, lambda _, n: population.draw(random, n), stream.censored
    )


def run_of(
    name: str,
    watched: Watched,
    draw: Callable[[int, int], Rows],
    censored: int,
    at: NDArray[np.float64] | None = None,
) -> Run:
    """Return how long *watched* stays quiet.

    Args:
        draw: Returns live rows: from a place on, so many.
        at: Time of each of them, Unix s.
    """
    for start in range(0, censored, BATCH):
        times = None if at is None else at[start : start + BATCH]
        if watched.alarms(draw(start, BATCH), times):
            return Run(name, watched.rows, True, watched.cause(), bool(watched.caution))
    return Run(name, watched.rows, False, warned=bool(watched.caution))


def named(name: str) -> Population:
    """Return the population *name*."""
    return next(each for each in populations() if each.name == name)
