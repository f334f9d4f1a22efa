"""What holds of the scheduler whatever happens: hypothesis drives it through a fake world."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from scheduler_worlds import MAX_BATCH, option

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler.jobs import Batch, Job, Option
from scanflow_serve.runtime.scheduler.scheduler import Scheduler

LANES = ("p", "q")
POOL = {
    "p": (option("a", 0.99, 4, 8), option("b", 0.95, 2, 3, threads=2), option("c", 0.9, 1, 0.5)),
    # `c` answers in both lanes: they share its health
    "q": (option("c", 0.9, 1, 0.5), option("d", 0.97, 3, 5)),
}
MOST = 12  # jobs that may wait


class World(RuleBasedStateMachine):
    """A shell that does all that a shell may do, in any order."""

    @initialize(cores=st.integers(1, 4))
    def start(self, cores: int) -> None:
        self.now = 0.0
        self.cores = cores
        self.core = Scheduler(
            cores=cores, max_queue=MOST, max_batch=MAX_BATCH, deadline_s=0.1, notify=self.told
        )
        self.decisions = 0
        self.ended: Counter[int] = Counter()
        self.admitted: dict[int, Job] = {}  # also keeps ids from being used again
        self.waiting: dict[int, Job] = {}
        self.running: list[Batch] = []
        self.only: str | None = None
        self.prefer: str | None = None
        self.carried: dict[str, tuple[Option, ...]] = {}
        for lane in LANES:
            self.carry(lane, POOL[lane])

    def told(self, decision: Any) -> None:
        self.decisions += 1

    def carry(self, lane: str, options: tuple[Option, ...]) -> None:
        self.core.carry(lane, options, self.now, reason="loaded", why="test")
        self.carried[lane] = options
        self.sweep()

    def sweep(self) -> None:
        """Take what was dropped, and start all that may start."""
        self.take_dropped()
        self.begin(self.core.next(self.now))

    def take_dropped(self) -> None:
        for job, refusal in self.core.dropped:
            assert refusal.status in (503, 504)
            assert id(job) in self.waiting
            del self.waiting[id(job)]
            self.ended[id(job)] += 1
        self.core.dropped.clear()

    def begin(self, batch: Batch | None) -> None:
        while batch is not None:
            self.check_start(batch)
            for job in batch.jobs:
                self.waiting.pop(id(job), None)
            self.running.append(batch)
            self.take_dropped()
            batch = self.core.next(self.now)
        self.take_dropped()

    def goal(self, job: Job) -> str:
        return job.goal or self.prefer or "objective"

    def check_start(self, batch: Batch) -> None:
        """What must hold of a batch that begins."""
        rows, lane = sum(job.rows for job in batch.jobs), self.core.lane(batch.lane)
        assert batch.rows == rows
        assert rows <= MAX_BATCH or len(batch.jobs) == 1
        assert batch.option in self.carried[batch.lane], "the floor: only what was given"
        assert len({(job.lane, self.goal(job)) for job in batch.jobs}) == 1
        health = self.core.health(batch.option.variant)
        p95_ms = batch.option.curve.p95_ms(rows) * health.ratio * health.tail
        assert self.now + p95_ms / 1000 <= min(job.due for job in batch.jobs) + 1e-9
        if self.only is not None and any(
            each.id == self.only and self.core.health(each.variant).closed
            for each in self.carried[batch.lane]
        ):
            assert batch.option.id == self.only, "a pin is obeyed"
        last = max(batch.jobs, key=lambda job: (job.priority, job.due))
        for job in self.waiting.values():  # earliest deadline first among equals
            equal = (job.lane, self.goal(job)) == (lane.name, self.goal(last))
            if not equal or any(job is taken for taken in batch.jobs):
                continue
            assert (job.priority, job.due) >= (last.priority, last.due)
        used = sum(min(b.option.threads, self.cores) for b in (*self.running, batch))
        retried = sum(min(b.option.threads, self.cores) for b in self.running if b.attempt > 1)
        assert used <= self.cores + retried, "cores are over-committed by retries alone"

    @rule(
        lane=st.sampled_from(LANES),
        rows=st.sampled_from((1, 1, 1, 2, 7, 40)),
        deadline_ms=st.sampled_from((1, 5, 20, 100, 1000)),
        client=st.sampled_from(("x", "y", "z")),
        priority=st.sampled_from((0, 0, 1)),
        goal=st.sampled_from((None, None, "latency", "accuracy")),
        held=st.booleans(),
    )
    def arrive(self, lane: str, rows: int, deadline_ms: int, held: bool, **more: Any) -> None:
        job = Job(lane, rows, self.now, self.now + deadline_ms / 1000, **more)
        others = set(self.waiting)
        hopeless = self.turned_away(Job(lane, 1, job.arrived, job.due, **more))
        self.waiting[id(job)] = self.admitted[id(job)] = job
        try:
            if held:
                self.core.hold(job, self.now)
                self.take_dropped()
            else:
                self.begin(self.core.submit(job, self.now))
            refused = None
        except RequestError as refusal:
            refused = refusal
        if refused is None:
            assert not hopeless, "who is turned away unread would have been refused"
            assert self.carried.get(lane), "a closed lane admits nobody"
        else:
            assert refused.status in (503, 504)
            assert not self.core.dropped, "who is refused has pushed nobody out"
            assert set(self.waiting) == others | {id(job)}
            del self.waiting[id(job)]
            self.ended[id(job)] += 1

    def turned_away(self, least: Job) -> bool:
        try:
            self.core.turn_away(least, self.now)
        except RequestError:
            return True
        return False

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9), slow=st.floats(0.3, 5.0))
    def finish(self, which: int, slow: float) -> None:
        batch = self.running.pop(which % len(self.running))
        took_ms = batch.option.curve.p50_ms(batch.rows) * slow
        self.now = max(self.now, batch.started + took_ms / 1000)
        self.core.done(batch, self.now, took_ms)
        for job in batch.jobs:
            self.ended[id(job)] += 1
        self.sweep()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9))
    def fail(self, which: int) -> None:
        batch = self.running.pop(which % len(self.running))
        again = self.core.failed(batch, self.now, "it broke")
        retried = [id(job) for each in again for job in each.jobs]
        assert not again or sorted(retried) == sorted(map(id, batch.jobs))
        assert all(each.attempt > batch.attempt for each in again), "retries end"
        if not again:
            for job in batch.jobs:
                self.ended[id(job)] += 1
        self.running += again
        self.sweep()

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 99))
    def hang_up(self, which: int) -> None:
        job = list(self.waiting.values())[which % len(self.waiting)]
        assert self.core.cancel(job)
        assert not self.core.cancel(job)
        del self.waiting[id(job)]
        self.ended[id(job)] += 1

    @rule(lane=st.sampled_from(LANES), count=st.integers(0, 3))
    def load_or_unload(self, lane: str, count: int) -> None:
        self.carry(lane, POOL[lane][:count])

    @rule(what=st.sampled_from((None, "a", "c", "d")), prefer=st.sampled_from((None, "latency")))
    def pin(self, what: str | None, prefer: Any) -> None:
        self.only, self.prefer = what, prefer
        only = None if what is None else (lambda option: option.id == what)
        self.core.bound(self.now, goal=prefer, only=only, reason="pin", why="test")
        self.sweep()

    @rule(variant=st.sampled_from(("a", "c")))
    def crash(self, variant: str) -> None:
        self.core.suspend(variant, self.now, "the process died")
        self.sweep()

    @rule(seconds=st.sampled_from((0.001, 0.02, 0.1, 2.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)
        assert all(job.due > self.now for job in self.core._queue)
        self.sweep()

    @invariant()
    def nothing_is_lost_or_answered_twice(self) -> None:
        running = [id(job) for batch in self.running for job in batch.jobs]
        assert all(times == 1 for times in self.ended.values())
        assert len(running) == len(set(running))
        assert set(running).isdisjoint(self.ended)
        assert set(self.waiting).isdisjoint(self.ended)
        assert len(self.ended) + len(running) + len(self.waiting) == len(self.admitted)
        assert self.core.queued == len(self.waiting) <= MOST
        assert self.core.running == len(self.running)
        assert self.core.idle == (not self.waiting and not self.running)

    @invariant()
    def figures_stay_sane(self) -> None:
        waiting = list(self.core._queue)
        cost_ms = sum(job.cost_ms for job in waiting)
        assert math.isclose(self.core._queue.cost_ms, cost_ms, abs_tol=1e-6)
        assert len(self.core.journal.decisions) == min(self.decisions, 100)
        for lane in self.core.lanes():
            assert self.core.lane(lane).order("objective"), "the last one is never taken out"

    def teardown(self) -> None:
        """Let it run dry: whoever is left is answered or refused."""
        if not hasattr(self, "core"):
            return
        for _ in range(1000):
            if self.core.idle:
                break
            while self.running:
                self.finish(0, 1.0)
            self.pass_time(0.1)
        assert self.core.idle
        self.nothing_is_lost_or_answered_twice()


TestEveryJobEndsOnceInOrderWithinBounds = World.TestCase
TestEveryJobEndsOnceInOrderWithinBounds.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None
)
