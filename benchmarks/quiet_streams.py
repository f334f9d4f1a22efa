"""Clean traffic: how long until a false alarm, of independent rows, and of rows that remember."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any

import numpy as np
from traffic import Population, Random, Rows, autoregressive, daily, populations
from watched import RUN_LENGTH, Watched, armed

CENSORED = 30_000  # rows after which a run ends
BATCH = 200  # rows shown at once; an alarm counts from the first of its batch
REFERENCE = 2000  # rows, 600 of them to calibrate on
EARLY = 2000  # rows that a share e^(-EARLY / RUN_LENGTH) of runs must pass without an alarm


@dataclass(frozen=True, slots=True)
class Run:
    """One clean stream: rows until the alarm, or until it was ended."""

    population: str
    rows: int
    alarmed: bool
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Quiet:
    """What runs together say.

    Attributes:
        mean: Maximum likelihood of exponential run lengths, rows; inf where nothing alarmed.
        lower: Its one-sided 95 % lower bound.
        passed: Share of runs without an alarm in the first `EARLY` rows.
        least: Share that passes at the promised rate, less 3 standard errors.
    """

    runs: int
    alarms: int
    mean: float
    lower: float
    passed: float
    least: float


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
    )


def independent(runs: int, censored: int = CENSORED, **settings: Any) -> list[Run]:
    """Return *runs* clean streams, each with fresh splits, over all populations in turn."""
    sources = populations()
    return [
        _until_alarm(sources[seed % len(sources)], seed, censored, settings) for seed in range(runs)
    ]


def _until_alarm(population: Population, seed: int, censored: int, settings: dict[str, Any]) -> Run:
    watched = armed(population, REFERENCE, seed, **settings)
    random = np.random.default_rng([seed, 11])
    return _run(population.name, watched, lambda _, n: population.draw(random, n), censored)


def _run(name: str, watched: Watched, draw: Callable[[int, int], Rows], censored: int) -> Run:
    for start in range(0, censored, BATCH):
        if watched.alarms(draw(start, BATCH)):
            return Run(name, watched.rows, True, watched.cause())
    return Run(name, watched.rows, False)


@dataclass(frozen=True, slots=True)
class Null:
    """Traffic that is not of independent rows, and in which nothing changes.

    Attributes:
        stream: Returns so many rows in order of time.
        settings: Of the check, as a policy gives them.
    """

    name: str
    stream: Callable[[Random, int], Rows]
    settings: dict[str, Any]
    reference: int = 4000


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the promise: refused before it was made, or kept, or not."""

    name: str
    refused: int
    quiet: Quiet | None


def _memory(random: Random, rows: int) -> Rows:
    return autoregressive(random, rows)


def _day(random: Random, rows: int) -> Rows:
    return daily(random, 0, rows)


BLOCKS = {"ordered": True, "method": "pca", "members": [], "steps": 40}
NULLS = (
    Null("AR(1), 0.9; reference said to be in no order", _memory, {}),
    Null("AR(1), 0.9; `ordered: true`", _memory, {"ordered": True}),
    Null("AR(1), 0.9; blocks: `steps: 40`, `members: []`", _memory, BLOCKS, 20_000),
    Null("daily cycle; reference of 2 h", lambda r, n: daily(r, 0, n), {}, 200 * 4),
    Null("daily cycle; reference of 5 days, in no order", _day, {}, 12_000),
    Null("daily cycle; 5 days, blocks: `steps: 40`, `members: []`", _day, BLOCKS, 36_000),
)


def dependent(runs: int, censored: int = CENSORED) -> list[Kept]:
    """Return what becomes of the promise where rows remember, or follow the hour."""
    return [_kept(null, runs, censored) for null in NULLS]


def _kept(null: Null, runs: int, censored: int) -> Kept:
    found: list[Run] = []
    refused = 0
    for seed in range(runs):
        random = np.random.default_rng([seed, 13])
        rows = null.stream(random, null.reference + censored)
        source = Population(null.name, lambda r, n, rows=rows: rows[:n], None, rows.shape[1])
        try:
            watched = Watched(source, rows[: null.reference], seed, **null.settings)
        except ValueError:
            refused += 1
            continue
        live = rows[null.reference :]
        found.append(
            _run(null.name, watched, lambda at, n, live=live: live[at : at + n], censored)  # type: ignore[misc]
        )
    return Kept(null.name, refused, summary(found) if found else None)
