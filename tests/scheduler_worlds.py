"""A small world for the scheduler: options, and a clock that runs arrivals through it."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.measurements import Latency
from scanflow_serve.runtime.scheduler.curve import Curve
from scanflow_serve.runtime.scheduler.jobs import Batch, Job, Option
from scanflow_serve.runtime.scheduler.scheduler import Scheduler
from scanflow_serve.runtime.scheduler.tuning import Tuning

MAX_BATCH = 32


def option(
    name: str,
    accuracy: float,
    call_ms: float,
    row_ms: float,
    threads: int = 1,
    tail: float = 1.2,
    contention: float = 1.0,
) -> Option:
    """Return an option whose calls take *call_ms* and *row_ms* for each row, alone on the host."""
    latency = {
        rows: Latency(call_ms + row_ms * rows, (call_ms + row_ms * rows) * tail, 50)
        for rows in (1, 2, 4, 8, 16, 32)
    }
    quick = -(call_ms + row_ms)
    return Option(
        id=name,
        variant=name,
        models=(name,),
        curve=Curve(latency, MAX_BATCH, contention),
        threads=threads,
        accuracy=accuracy,
        worth={"objective": accuracy, "accuracy": accuracy, "latency": quick, "balanced": quick},
    )


BEST = option("best", 0.99, 4, 16)
GOOD = option("good", 0.96, 2, 4)
FAST = option("fast", 0.92, 1, 1.5)
FAMILY = (BEST, GOOD, FAST)


def scheduler(
    options: Sequence[Option] = FAMILY,
    *,
    cores: int = 2,
    deadline_s: float = 0.1,
    max_queue: int = 256,
    tuning: Tuning | None = None,
) -> Scheduler:
    """Return one with a lane ``p`` that carries *options*."""
    made = Scheduler(
        cores=cores,
        max_queue=max_queue,
        max_batch=MAX_BATCH,
        deadline_s=deadline_s,
        tuning=tuning,
    )
    made.carry("p", options, 0.0, reason="start", why="loaded")
    return made


def job(at: float, deadline_s: float = 0.1, rows: int = 1, **more: Any) -> Job:
    """Return a request of lane ``p`` that arrives at the time *at*."""
    return Job(**({"lane": "p"} | more), rows=rows, arrived=at, due=at + deadline_s)


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Return times of arrival."""
    rng = random.Random(seed)
    times = itertools.accumulate(rng.expovariate(rate) for _ in range(int(rate * seconds * 2) + 9))
    return [time for time in times if time < seconds]


@dataclass
class Outcome:
    """How each job of a trace ended."""

    answered: dict[int, tuple[str, float]] = field(default_factory=dict)  # option, latency in s
    refused: dict[int, RequestError] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)

    def served(self, client: str) -> float:
        """Return the share of the client's jobs that were answered."""
        own = [key for key, job in self.jobs.items() if job.client == client]
        return sum(key in self.answered for key in own) / len(own)

    def share(self, name: str) -> float:
        """Return the share of answers that the option *name* gave."""
        return sum(given == name for given, _ in self.answered.values()) / len(self.answered)


def replay(
    core: Scheduler,
    jobs: Sequence[Job],
    slowness: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Outcome:
    """Run *jobs* through *core*; calls take what their options' p50 says, but for noise.

    Args:
        slowness: By option, what its calls take of their profile; 1 if not named.
    """
    outcome, rng, order = Outcome(), random.Random(seed), itertools.count()
    events: list[tuple[float, int, Any]] = [(job.arrived, next(order), job) for job in jobs]
    ticks = int(max(job.due for job in jobs) * 10) + 10
    events += [(tick / 10, next(order), None) for tick in range(1, ticks)]
    heapq.heapify(events)

    def begin(batch: Batch | None, now: float) -> None:
        while batch is not None:
            took_ms = batch.option.curve.p50_ms(batch.rows) * rng.lognormvariate(0, 0.08)
            took_ms *= (slowness or {}).get(batch.option.id, 1.0)
            heapq.heappush(events, (now + took_ms / 1000, next(order), (batch, took_ms)))
            batch = core.next(now)

    while events:
        now, _, event = heapq.heappop(events)
        if isinstance(event, Job):
            outcome.jobs[id(event)] = event
            try:
                begin(core.submit(event, now), now)
            except RequestError as refusal:
                outcome.refused[id(event)] = refusal
        elif event is None:
            core.tick(now)
            begin(core.next(now), now)
        else:
            batch, took_ms = event
            core.done(batch, now, took_ms)
            for each in batch.jobs:
                assert id(each) not in outcome.answered
                outcome.answered[id(each)] = (batch.option.id, now - each.arrived)
            begin(core.next(now), now)
        for dropped, refusal in core.dropped:
            assert id(dropped) not in outcome.refused
            outcome.refused[id(dropped)] = refusal
        core.dropped.clear()
    return outcome
