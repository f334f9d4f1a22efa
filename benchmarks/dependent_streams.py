"""Traffic in which nothing changes and rows depend on one another: is the promise kept, or refused?

A promise that does not hold must not be made in silence: the check refuses the reference, or goes
on collecting it, or warns, or is told how rows depend (`block`, `strata`) and keeps the promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectors import INPUT
from numpy.typing import NDArray
from parallel import Workers
from quiet_streams import BATCH, CENSORED, Quiet, Run, run_of, summary
from traffic import DAY_ROWS, Population, Random, Rows, autoregressive, daily
from watched import LEAST_SHARE, RUN_LENGTH, Watched

from scanflow_serve.runtime.checks.configuration import WARMUP_ROWS
from scanflow_serve.runtime.checks.rows import Answers, Observed
from scanflow_serve.runtime.checks.warmup import Warmup

DAY_S = 86_400
FEATURES = 8


@dataclass(frozen=True, slots=True)
class Null:
    """Traffic in which nothing changes, and how a policy describes it.

    Attributes:
        stream: Returns so many rows in order of time.
        settings: Of the check, as a policy gives them.
        reference: Rows, the first of the stream.
        min_span_s: Where it is learned from live traffic: time that this must span; None: a file.
        told: Whether rows of the reference can tell that they depend.
    """

    name: str
    stream: Callable[[Random, int], Rows]
    settings: dict[str, Any] = field(default_factory=dict)
    reference: int = 4000
    min_span_s: float | None = None
    told: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the null at a place in `NULLS`."""

    null: int
    seed: int
    censored: int = CENSORED


@dataclass(frozen=True, slots=True)
class Became:
    """What became of one run.

    Attributes:
        refused: Why the reference was; "" if not.
        warned: What the check said of its own promise; "" if nothing.
    """

    refused: str = ""
    warned: str = ""
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the promise.

    Attributes:
        refused: Runs whose reference was refused.
        warned: Runs of which the check said that the promise may not hold.
        said: What it said last, one sentence.
        quiet: Of those that were not refused.
        silent: Whether a promise was broken that no run was warned of.
    """

    name: str
    runs: int
    refused: int
    warned: int
    said: str
    quiet: Quiet | None
    told: bool = True

    @property
    def broken(self) -> bool:
        """Return whether alarms came too often, or too few rows were seen to say that not."""
        return self.quiet is not None and self.quiet.lower < LEAST_SHARE * RUN_LENGTH

    @property
    def silent(self) -> bool:
        """Return whether the promise was broken, and not every run said so."""
        return self.broken and self.refused + self.warned < self.runs

    @property
    def verdict(self) -> str:
        """Return what to say of it."""
        if self.quiet is None:
            return "not made"
        if not self.broken:
            return "kept"
        return "**broken**" if self.silent else "taken back"


def _memory(random: Random, rows: int) -> Rows:
    return autoregressive(random, rows, FEATURES)


def _little(random: Random, rows: int) -> Rows:
    return autoregressive(random, rows, FEATURES, memory=0.3)


def _day(random: Random, rows: int) -> Rows:
    return daily(random, 0, rows, features=FEATURES)


DAYS = 10 * DAY_ROWS
BLOCKS = {"ordered": True, "block": 100}
HOURS = {"strata": "hour"}
NULLS = (
    Null("AR(1) of 0.3, `ordered: true`", _little, {"ordered": True}),
    Null("AR(1) of 0.9, said to be in no order", _memory),
    Null("AR(1) of 0.9, `ordered: true`", _memory, {"ordered": True}),
    Null("AR(1) of 0.9, `block: 100`", _memory, BLOCKS, 40_000),
    Null("daily cycle, a file of 2 hours", _day, {"ordered": True}, DAY_ROWS // 12, told=False),
    Null("daily cycle, live, `min_span_s` a day", _day, {}, 4 * DAY_ROWS, DAY_S),
    Null("daily cycle, 10 days, `ordered: true`", _day, {"ordered": True}, DAYS),
    Null("daily cycle, 10 days, `strata: hour`", _day, HOURS, DAYS),
)


def dependent(workers: Workers, runs: int, censored: int = CENSORED) -> list[Kept]:
    """Return what becomes of the promise where rows remember, or follow the hour."""
    jobs = [Job(null, seed, censored) for null in range(len(NULLS)) for seed in range(runs)]
    found = workers.map(became, jobs)
    return [_kept(null, found[at * runs : (at + 1) * runs]) for at, null in enumerate(NULLS)]


def became(job: Job) -> Became:
    """Return what becomes of the promise in one run."""
    null = NULLS[job.null]
    random = np.random.default_rng([job.seed, 13])
    rows = null.stream(random, null.reference + job.censored)
    at = np.arange(len(rows)) * (DAY_S / DAY_ROWS)
    here = null.reference
    try:
        watched = _watched(null, rows[:here], at[:here], job.seed)
    except ValueError as error:
        return Became(refused=str(error))

    def draw(start: int, count: int) -> Rows:
        return rows[here + start : here + start + count]

    run = run_of(null.name, watched, draw, job.censored, at[here:])
    return Became(warned=watched.caution, run=run)


def _watched(null: Null, rows: Rows, at: NDArray[np.float64], seed: int) -> Watched:
    """Return checks armed by *rows*, as a file or as live traffic.

    Raises:
        ValueError: They are refused, or live traffic is not enough.
    """
    source = Population(null.name, null.stream, None, rows.shape[1])
    if null.min_span_s is None:
        return Watched(source, rows, seed, at=at, **null.settings)
    warmup = Warmup(WARMUP_ROWS, null.min_span_s, seed)
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        live = Observed([""] * BATCH, {INPUT: rows[part]}, Answers({}), "", at[part])
        warmup.observe(live)
        learned = warmup.reference(seed)
        if learned is not None:
            given = null.settings | {"ordered": learned.ordered}
            return Watched(source, learned.inputs[INPUT], seed, at=learned.at, **given)
    raise ValueError(f"collecting: {warmup.why}")


def _kept(null: Null, found: list[Became]) -> Kept:
    runs = [each.run for each in found if each.run is not None]
    said = [each.refused or each.warned for each in found]
    return Kept(
        name=null.name,
        runs=len(found),
        refused=sum(bool(each.refused) for each in found),
        warned=sum(bool(each.warned) for each in found),
        said=next((each for each in reversed(said) if each), ""),
        quiet=summary(runs) if runs else None,
        told=null.told,
    )
