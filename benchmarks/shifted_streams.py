"""Traffic that changes: how many rows until the alarm, and which detector names the cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from parallel import Workers
from quiet_streams import REFERENCE
from traffic import Population, Random, Rows, bundled, mixed, noisy, of_classes, turned
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
    """Rows from a change to its alarm over several runs; missed ones count as infinite.

    Attributes:
        seen_by: Method of the drift check.
        missed: Runs without an alarm.
        early: Runs whose alarm came before the change; they count for nothing else.
        cause: Detector that the evidence named most often.
    """

    name: str
    seen_by: str
    runs: int
    median: float
    p90: float
    missed: int
    early: int
    cause: str
    aim: float | None


@dataclass(frozen=True, slots=True)
class Trial:
    """One run to be made of a shift.

    Attributes:
        shift: Its place in `SHIFTS`.
        seed: Of the reference.
        stream: Number of the live stream on this reference.
    """

    shift: int
    seed: int
    stream: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows until the alarm, inf where there was none; None where it came before the change."""

    rows: float | None
    cause: str = ""


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
    Shift("a class from 10 % to 30 %", _in_shares(3, *[7 / 9] * 9)),
    Shift("three patterns mixed into 10 %", _patterns),
    Shift("turned 40 degrees, from 0 to 30 % over 2,000 rows", _ramp),
    Shift("turned 40 degrees, bursts of 20 every 500 rows", _bursts),
)
POISONED = (0.0, 0.01, 0.05, 0.2)  # share of the reference that has heavy noise already


def delays(
    workers: Workers,
    references: int,
    streams: int,
    shifts: Sequence[Shift] = SHIFTS,
    **settings: Any,
) -> list[Delay]:
    """Return the delay of each shift of digits.

    Args:
        references: Fresh ones, each with its own splits.
        streams: Live ones on each reference.
        settings: Of the check, as a policy gives them.
    """
    trials = [
        Trial(SHIFTS.index(shift), seed, stream, settings)
        for shift in shifts
        for seed in range(references)
        for stream in range(streams)
    ]
    each = references * streams
    if streams > 1:  # trained once, before many need it
        workers.map(outcome, [trial for trial in trials[:each] if not trial.stream])
    found = workers.map(outcome, trials)
    method = str(settings.get("method", "pca"))
    return [
        summed(shift.name, method, found[place * each : (place + 1) * each], shift.aim)
        for place, shift in enumerate(shifts)
    ]


def outcome(trial: Trial) -> Outcome:
    """Return how *trial* went."""
    shift, digits = SHIFTS[trial.shift], bundled("digits")
    source = digits
    if (before := shift.before) is not None:
        source = Population(digits.name, _bound(before, digits), digits.answer, digits.features)
    watched = armed(source, REFERENCE, trial.seed, **trial.settings)
    random = np.random.default_rng([trial.seed, trial.stream, 17])
    if watched.alarms(source.draw(random, CALM)):
        return Outcome(None)
    rows = rows_until_alarm(watched, shift.live(digits, random, LONGEST))
    return Outcome(rows, watched.cause())


def summed(name: str, seen_by: str, found: Sequence[Outcome], aim: float | None = None) -> Delay:
    """Return what the outcomes of one shift say together."""
    rows = [each.rows for each in found if each.rows is not None]
    median, p90 = np.quantile(rows, [0.5, 0.9], method="higher") if rows else (np.inf, np.inf)
    causes = Counter(each.cause for each in found if each.rows not in (None, np.inf))
    return Delay(
        name=name,
        seen_by=seen_by,
        runs=len(found),
        median=float(median),
        p90=float(p90),
        missed=sum(each == np.inf for each in rows),
        early=len(found) - len(rows),
        cause=causes.most_common(1)[0][0] if causes else "",
        aim=aim,
    )


def rows_until_alarm(watched: Watched, rows: Rows) -> float:
    """Return how many of *rows*, shown one by one, it takes; inf where all of them do not."""
    for row in range(len(rows)):
        if watched.alarms(rows[row : row + 1]):
            return row + 1
    return np.inf


def poisoned(workers: Workers, runs: int) -> list[Delay]:
    """Return the delay of heavy noise where a share of the reference had it already."""
    jobs = [(share, seed) for share in POISONED for seed in range(runs)]
    found = workers.map(spoiled, jobs)
    return [
        summed(f"{share:.0%} of the reference", "pca", found[at * runs : (at + 1) * runs])
        for at, share in enumerate(POISONED)
    ]


def spoiled(job: tuple[float, int]) -> Outcome:
    """Return how a change goes whose rows are a share of the reference: (share, seed)."""
    share, seed = job
    digits = bundled("digits")
    source = Population(
        digits.name, _bound(_contaminated(share), digits), digits.answer, digits.features
    )
    watched = armed(source, REFERENCE, seed)
    random = np.random.default_rng([seed, 19])
    rows = rows_until_alarm(watched, _heavy(digits, random, LONGEST))
    return Outcome(rows, watched.cause())


def _bound(
    live: Callable[[Population, Random, int], Rows], source: Population
) -> Callable[[Random, int], Rows]:
    return lambda random, count: live(source, random, count)
