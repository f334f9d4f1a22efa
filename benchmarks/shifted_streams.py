"""Traffic that changes: how many rows until the alarm, and which detector names the cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from quiet_streams import REFERENCE
from traffic import Population, Random, Rows, bundled, mixed, noisy, of_classes, sines, turned
from watched import Watched, armed

CALM = 300  # clean rows before the change
LONGEST = 3000  # rows after it; a run that is still quiet then has missed it
STRONG = 0.4  # of a digit's full range: the noise called heavy


@dataclass(frozen=True, slots=True)
class Shift:
    """A change, and the median delay that is aimed at in rows; None: only shown."""

    name: str
    live: Callable[[Population, Random, int], Rows]
    aim: float | None = None
    before: Callable[[Population, Random, int], Rows] | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """Rows from a change to its alarm over several runs; missed ones count as infinite."""

    name: str
    median: float
    p90: float
    missed: int
    early: int
    cause: str
    aim: float | None


def _heavy(population: Population, random: Random, count: int) -> Rows:
    return noisy(population.draw(random, count), random, STRONG)


def _contaminated(share: float) -> Callable[[Population, Random, int], Rows]:
    def live(population: Population, random: Random, count: int) -> Rows:
        rows = population.draw(random, count)
        return mixed(rows, noisy(rows, random, STRONG), random, share)

    return live


def _ramp(population: Population, random: Random, count: int) -> Rows:
    rows = population.draw(random, count)
    shares = np.minimum(0.3, 0.3 * np.arange(count) / 2000)
    return mixed(rows, turned(rows, 40), random, shares)


def _bursts(population: Population, random: Random, count: int) -> Rows:
    rows = population.draw(random, count)
    inside = (np.arange(count) % 500 < 20).astype(float)
    return mixed(rows, turned(rows, 40), random, inside)


def _patterns(population: Population, random: Random, count: int) -> Rows:
    rows = population.draw(random, count)
    kinds = np.stack([noisy(rows, random, STRONG), turned(rows, 40), np.full_like(rows, 8.0)])
    found: Rows = kinds[random.integers(3, size=count), np.arange(count)]
    return mixed(rows, found, random, 0.1)


def _rotated(degrees: float) -> Callable[[Population, Random, int], Rows]:
    return lambda population, random, count: turned(population.draw(random, count), degrees)


def _in_shares(*shares: float) -> Callable[[Population, Random, int], Rows]:
    return lambda population, random, count: of_classes(population, random, count, shares)


SHIFTS = (
    Shift("heavy noise", _heavy, 5),
    Shift("medium rotation, 40 degrees", _rotated(40), 10),
    Shift("small rotation, 10 degrees", _rotated(10), 25),
    Shift("heavy noise on 10 % of rows", _contaminated(0.1), 60),
    Shift("classes 30/70 to 60/40", _in_shares(0.6, 0.4), 60, _in_shares(0.3, 0.7)),
    Shift("a class of ten vanished", _in_shares(0, *[1] * 9), 160),
    Shift("three patterns mixed into 10 %", _patterns),
    Shift("turned, from 0 to 30 % over 2000 rows", _ramp),
    Shift("turned, bursts of 20 every 500 rows", _bursts),
)


def delays(runs: int, **settings: Any) -> list[Delay]:
    """Return the delay of each shift of digits, each run with fresh splits."""
    digits = bundled("digits")
    return [_delay(shift, digits, runs, settings) for shift in SHIFTS]


def _delay(shift: Shift, digits: Population, runs: int, settings: dict[str, Any]) -> Delay:
    source = digits
    if (before := shift.before) is not None:
        normal = before
        source = Population(digits.name, lambda r, n: normal(digits, r, n), digits.answer, 64)
    found: list[float] = []
    causes: Counter[str] = Counter()
    early = 0
    for seed in range(runs):
        watched = armed(source, REFERENCE, seed, **settings)
        random = np.random.default_rng([seed, 17])
        if watched.alarms(source.draw(random, CALM)):
            early += 1
            continue
        found.append(rows_until_alarm(watched, shift.live(digits, random, LONGEST)))
        causes[watched.cause()] += 1
    cause = causes.most_common(1)[0][0] if causes else ""
    return _summed(shift.name, found, early, cause, shift.aim)


def _summed(name: str, found: list[float], early: int, cause: str, aim: float | None) -> Delay:
    missed = sum(delay == np.inf for delay in found)
    median, p90 = np.quantile(found, [0.5, 0.9], method="higher") if found else (np.inf, np.inf)
    return Delay(name, float(median), float(p90), missed, early, cause, aim)


def rows_until_alarm(watched: Watched, rows: Rows) -> float:
    """Return how many of *rows*, shown one by one, it takes; inf where all of them do not."""
    for row in range(len(rows)):
        if watched.alarms(rows[row : row + 1]):
            return row + 1
    return np.inf


def poisoned(runs: int, shares: tuple[float, ...] = (0.0, 0.01, 0.05, 0.2)) -> list[Delay]:
    """Return the delay of heavy noise where a share of the reference had it already."""
    digits = bundled("digits")
    found = []
    for share in shares:
        spoiled = _contaminated(share)
        source = Population(digits.name, _bound(spoiled, digits), digits.answer, 64)
        rows: list[float] = []
        for seed in range(runs):
            watched = armed(source, REFERENCE, seed)
            random = np.random.default_rng([seed, 19])
            rows.append(rows_until_alarm(watched, _heavy(digits, random, LONGEST)))
        found.append(_summed(f"{share:.0%} of the reference", rows, 0, "", None))
    return found


def _bound(
    live: Callable[[Population, Random, int], Rows], source: Population
) -> Callable[[Random, int], Rows]:
    return lambda random, count: live(source, random, count)


SEQUENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("a tenth faster", {"faster": 1.1}),
    ("channels apart", {"apart": True}),
)
SEEN_BY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("marginals, `method: ks`", {"method": "ks"}),
    ("rows, `method: pca`", {"method": "pca", "members": []}),
    ("windows, `method: pca, steps: 32`", {"method": "pca", "members": [], "steps": 32}),
)


def sequences(runs: int, reference: int = 24_000) -> list[Delay]:
    """Return the delay of shifts of sequences that no marginal shows, by what looks at them."""
    return [
        _sequence(f"{shift}: {seen}", change, settings, runs, reference)
        for shift, change in SEQUENCES
        for seen, settings in SEEN_BY
    ]


def _sequence(
    name: str, change: dict[str, Any], settings: dict[str, Any], runs: int, reference: int
) -> Delay:
    source = Population("sines", lambda random, count: sines(random, count), None, 4)
    found: list[float] = []
    early = 0
    for seed in range(runs):
        random = np.random.default_rng([seed, 23])
        watched = Watched(source, sines(random, reference), seed, ordered=True, **settings)
        if watched.alarms(sines(random, 640)):
            early += 1
            continue
        found.append(rows_until_alarm(watched, sines(random, LONGEST, **change)))
    return _summed(name, found, early, "", None)
