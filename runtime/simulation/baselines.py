"""Rules to compare with: one option, thresholds on the rate, and slack alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler import refusals
from scanflow_serve.runtime.scheduler.cores import Cores
from scanflow_serve.runtime.scheduler.jobs import Batch, Job, Option
from scanflow_serve.runtime.scheduler.queue import Queue
from scanflow_serve.runtime.scheduler.scheduler import Scheduler
from scanflow_serve.runtime.scheduler.tuning import Tuning
from scanflow_serve.runtime.simulation.calls import row_cost_s

THRESHOLD = 0.8  # of an option's capacity; the rest is headroom, as autoscalers keep it
GAIN = 0.1  # weight of one call in a variant's moving latency ratio


@dataclass(frozen=True, slots=True)
class Setting:
    """What all strategies have in common.

    Attributes:
        lane: The public name that is asked for.
        options: Best by the policy's objective first.
        deadline_s: Of requests that name none.
    """

    lane: str
    options: tuple[Option, ...]
    cores: int
    max_queue: int
    max_batch: int
    deadline_s: float
    tuning: Tuning

    def only(self, option: Option) -> Setting:
        """Return the same with one option."""
        return replace(self, options=(option,))


def scheduler(setting: Setting, kind: type[Scheduler] = Scheduler) -> Scheduler:
    """Return the server's own scheduler; with one option it is a static choice."""
    made = kind(
        cores=setting.cores,
        max_queue=setting.max_queue,
        max_batch=setting.max_batch,
        deadline_s=setting.deadline_s,
        tuning=setting.tuning,
    )
    made.carry(setting.lane, setting.options, 0.0, reason="start", why="simulated")
    return made


def rate_thresholds(setting: Setting) -> Scheduler:
    """Return a scheduler bound to the best option that the present rate leaves room for.

    The rule of those who switch by traffic: the first option, best first, of whose capacity the
    rate takes no more than `THRESHOLD`; the fastest if none has room. Queue, batches and admission
    are the same as ours.
    """
    made = scheduler(setting, _RateThresholds)
    assert isinstance(made, _RateThresholds)
    made.choose_from(setting)
    return made


class _RateThresholds(Scheduler):
    _setting: Setting
    _chosen: Option | None = None

    def choose_from(self, setting: Setting) -> None:
        self._setting = setting
        self._choose(0.0)

    def tick(self, now: float) -> None:
        super().tick(now)
        self._choose(now)

    def _choose(self, now: float) -> None:
        setting = self._setting
        load = self.lane(setting.lane).rate.cautious / setting.cores  # rows per core and s
        costs = {option: _cost_s(setting, option) for option in setting.options}
        able = (option for option in setting.options if load * costs[option] <= THRESHOLD)
        chosen = next(able, None) or min(setting.options, key=lambda option: costs[option])
        if chosen is not self._chosen:
            self._chosen = chosen
            why = f"the rate passed a threshold: {chosen.variant}"
            self.bound(now, goal=None, only=lambda each: each is chosen, reason="rate", why=why)


def _cost_s(setting: Setting, option: Option) -> float:
    return row_cost_s(option, setting.cores) + setting.tuning.overhead_ms / 1000


class SlackOnly:
    """Earliest deadline first; the best option that the head of the queue has time for.

    No look at those behind, no plan by rate, no refusal on arrival but of a full queue; what can
    no more be met is refused when it comes first.

    Source:
        Romero et al., INFaaS (ATC 2021); Khare et al., SuperServe's SlackFit (NSDI 2025).
    """

    def __init__(self, setting: Setting) -> None:
        self.dropped: list[tuple[Job, RequestError]] = []
        self._setting = setting
        self._cores = Cores(setting.cores)
        self._queue = Queue()
        self._ratios = dict.fromkeys(setting.options, 1.0)  # measured over profiled latency

    def submit(self, job: Job, now: float) -> Batch | None:
        """Queue *job*; return the batch that may start, or raise as `hold`."""
        self.hold(job, now)
        return self.next(now)

    def hold(self, job: Job, now: float) -> None:
        """Queue *job*.

        Raises:
            RequestError: 503, the queue is full.
        """
        if len(self._queue) >= self._setting.max_queue:
            raise refusals.full(self._setting.max_queue, 0.0)
        job.due -= self._setting.tuning.reserve_ms / 1000
        self._queue.add(job)

    def next(self, now: float) -> Batch | None:
        """Return the next batch that may start."""
        while self._queue and self._cores.free > 0:
            head = self._queue.head
            for option in self._setting.options:
                start = self._cores.free_at(min(option.threads, self._setting.cores), now)
                jobs = self._fit(option, (head.due - start) * 1000)
                if jobs:
                    return self._batch(option, jobs, now) if start <= now else None
            self._queue.remove(head)
            least_ms = min(self._p95_ms(option, head.rows) for option in self._setting.options)
            self.dropped.append((head, refusals.late(head, 0.0, least_ms, now)))
        return None

    def done(self, batch: Batch, now: float, took_ms: float) -> None:
        """Count *batch* as answered."""
        self._cores.end(batch)
        ratio = took_ms / batch.option.curve.p50_ms(batch.rows)
        self._ratios[batch.option] += GAIN * (ratio - self._ratios[batch.option])

    def tick(self, now: float) -> None:
        """Do nothing: slack alone decides."""

    def _p95_ms(self, option: Option, rows: int) -> float:
        return option.curve.p95_ms(rows) * self._ratios[option]

    def _fit(self, option: Option, slack_ms: float) -> list[Job]:
        """Return the first jobs that one call answers within the head's slack."""
        jobs: list[Job] = []
        rows = 0
        for job in self._queue:
            rows += job.rows
            if (rows > self._setting.max_batch and jobs) or self._p95_ms(option, rows) > slack_ms:
                break
            jobs.append(job)
        return jobs

    def _batch(self, option: Option, jobs: Sequence[Job], now: float) -> Batch:
        rows = sum(job.rows for job in jobs)
        for job in jobs:
            self._queue.remove(job)
        batch = Batch(
            lane=self._setting.lane,
            option=option,
            jobs=list(jobs),
            rows=rows,
            started=now,
            expected_ms=option.curve.p50_ms(rows) * self._ratios[option],
        )
        self._cores.start(batch)
        return batch
