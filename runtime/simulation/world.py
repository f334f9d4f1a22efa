"""The simulated server: a clock that jumps from event to event, cores, and one event loop.

What shares the cores is slowed down alike when there is more of it than there are cores, and calls
side by side by their contention. All of it is therefore kept by one measure of work done: a call
that needs 5 ms ends when this measure has grown by 5 ms, however long that takes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.engine.control import TICK_S
from scanflow_serve.runtime.scheduler.jobs import Batch, Job, Option
from scanflow_serve.runtime.scheduler.tuning import Tuning
from scanflow_serve.runtime.simulation.arrivals import Arrival
from scanflow_serve.runtime.simulation.calls import Calls
from scanflow_serve.runtime.simulation.strategy import Strategy

OVERHEAD_MS = 0.2  # CPU of one request beside inference; benchmarks/overhead.py, 2 x EPYC
End: TypeAlias = Literal["in_time", "late", "refused", "dropped"]


@dataclass(frozen=True, slots=True)
class Machine:
    """The simulated host.

    Attributes:
        overhead_ms: CPU of one request beside inference, half before it and half after.
        inline_ms: Calls that take no longer run on the event loop itself; see `Tuning`.
    """

    cores: int
    overhead_ms: float = OVERHEAD_MS
    inline_ms: float = Tuning().inline_ms


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        latency_s: From its arrival to the end of the answer, or of the refusal.
        option: What answered; None for a refusal.
    """

    arrival: Arrival
    end: End
    latency_s: float
    option: Option | None = None


@dataclass(slots=True)
class Log:
    """All that happened.

    Attributes:
        outcomes: In order of arrival.
        switches: When another option than before took a batch, in s.
        batches: Rows of each call.
    """

    outcomes: list[Outcome]
    switches: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)


def replay(
    arrivals: Sequence[Arrival],
    strategy: Strategy,
    machine: Machine,
    *,
    lane: str,
    deadline_s: float,
    seed: int = 0,
) -> Log:
    """Return what becomes of *arrivals*, each of which ends exactly once.

    Args:
        arrivals: In order.
        lane: Which the strategy's jobs are for.
        deadline_s: Of arrivals that name none.
    """
    world = _World(arrivals, strategy, machine, lane, deadline_s, Calls(seed))
    return world.run()


@dataclass(slots=True)
class _Work:
    """Something that the event loop does.

    Attributes:
        needs_s: Core time.
        then: Called once it is done, with the time that it took, in s.
    """

    needs_s: float
    then: Callable[[float], None]
    threads: int = 1


class _World:
    def __init__(
        self,
        arrivals: Sequence[Arrival],
        strategy: Strategy,
        machine: Machine,
        lane: str,
        deadline_s: float,
        calls: Calls,
    ) -> None:
        self.arrivals, self.strategy, self.machine = arrivals, strategy, machine
        self.lane, self.deadline_s, self.calls = lane, deadline_s, calls
        self.half_s = machine.overhead_ms / 2000
        self.now = self.work = 0.0  # s of the clock; s of undisturbed work
        self.ticked = 0
        self.came = 0
        self.running: list[tuple[float, int, Batch, float]] = []  # ends at work, -, -, began
        self.threads = 0  # of what runs
        self.slowdown = 1.0  # of what runs, by contention
        self.waiting: deque[_Work] = deque()  # for the event loop
        self.doing: tuple[float, float, _Work] | None = None  # ends at work, began
        # When the call began in whose turn of the loop we are: what came meanwhile is held.
        self.turn: float | None = None
        self.ends: dict[int, Outcome] = {}
        self.log = Log([])
        self.last: Option | None = None

    def run(self) -> Log:
        """Return what happened, once every request has ended."""
        while len(self.ends) < len(self.arrivals):
            self._step()
        self.log.outcomes = [self.ends[index] for index in range(len(self.arrivals))]
        return self.log

    # The clock ----------------------------------------------------------------------------------

    def _step(self) -> None:
        """Go on to what comes next, and let it happen."""
        if self.doing is None and self.waiting:
            work = self.waiting.popleft()
            self.doing = (self.work + work.needs_s, self.now, work)
        loop_at = self.doing[0] if self.doing is not None else float("inf")
        call_at = self.running[0][0] if self.running else float("inf")
        tick_at = (self.ticked + 1) * TICK_S
        more = self.came < len(self.arrivals)
        arrival_at = self.arrivals[self.came].at if more else float("inf")
        speed = self._speed()
        work_at = self.now + (min(loop_at, call_at) - self.work) / speed
        if work_at <= min(arrival_at, tick_at):
            self._go_to(work_at, min(loop_at, call_at))
            if loop_at <= call_at:
                self._loop_done()
            else:
                self._call_done()
            return
        at = min(arrival_at, tick_at)
        self._go_to(at, self.work + (at - self.now) * speed)
        if tick_at <= arrival_at:
            self.ticked += 1
            self.waiting.append(_Work(0.0, self._tick))
        else:
            self.waiting.append(_Work(self.half_s, partial(self._submit, self.came)))
            self.came += 1

    def _speed(self) -> float:
        """Return the speed of all that runs, as a share of that of a call alone on the host."""
        wanted = self.threads + (self.doing[2].threads if self.doing is not None else 0)
        return min(1.0, self.machine.cores / wanted) / self.slowdown if wanted else 1.0

    def _meet(self) -> None:
        """Bring up to date how the calls that run slow each other down."""
        cores, count = self.machine.cores, len(self.running)
        self.slowdown = 1.0
        if count > 1:
            curves = [(batch.option.curve, batch.option.threads) for _, _, batch, _ in self.running]
            paces = (
                c.contention * c.pace(count - 1, cores // min(t, cores) - 1) for c, t in curves
            )
            self.slowdown = sum(paces) / count

    def _go_to(self, now: float, work: float) -> None:
        self.now, self.work = max(self.now, now), work

    def _loop_done(self) -> None:
        assert self.doing is not None
        _, began, work = self.doing
        self.doing = None
        work.then(self.now - began)

    def _call_done(self) -> None:
        _, _, batch, began = heapq.heappop(self.running)
        self.threads -= min(batch.option.threads, self.machine.cores)
        self._meet()
        took_s = self.now - began
        self.waiting.append(_Work(0.0, lambda _: self._answer(batch, took_s)))

    # The server ---------------------------------------------------------------------------------

    def _submit(self, index: int, _took_s: float) -> None:
        arrival = self.arrivals[index]
        seen = self.now if self.turn is None else self.turn
        job = Job(
            lane=self.lane,
            rows=arrival.rows,
            arrived=seen,
            due=seen + self._deadline_s(arrival),
            client=arrival.client,
            priority=arrival.priority,
            payload=index,
        )
        batch = None
        try:
            if self.turn is None:
                batch = self.strategy.submit(job, self.now)
            else:
                self.strategy.hold(job, self.now)
        except RequestError:
            self._write(partial(self._refused, index, "refused"))
        self._begin(batch)

    def _tick(self, _took_s: float) -> None:
        self.strategy.tick(self.now)
        self._pump()

    def _pump(self) -> None:
        """Start what may start, unless the loop first looks at what has come meanwhile."""
        self._begin(self.strategy.next(self.now) if self.turn is None else None)

    def _begin(self, batch: Batch | None) -> None:
        """Start *batch*, and whatever else may start."""
        while batch is not None:
            self._took(batch)
            needs_s = self.calls.took_s(batch.option, batch.rows)
            threads = min(batch.option.threads, self.machine.cores)
            likely_ms = max(batch.expected_ms, batch.option.curve.p95_ms(batch.rows))
            if likely_ms <= self.machine.inline_ms:
                self.waiting.appendleft(
                    _Work(needs_s, partial(self._answer_inline, batch), threads)
                )
                break
            self.threads += threads
            entry = (self.work + needs_s, len(self.log.batches), batch, self.now)
            heapq.heappush(self.running, entry)
            self._meet()
            batch = self.strategy.next(self.now)
        for job, _ in self.strategy.dropped:
            self._write(partial(self._refused, job.payload, "dropped"))
        self.strategy.dropped.clear()

    def _took(self, batch: Batch) -> None:
        self.log.batches.append(batch.rows)
        if self.last is not None and batch.option is not self.last:
            self.log.switches.append(self.now)
        self.last = batch.option

    def _answer(self, batch: Batch, took_s: float) -> None:
        self.strategy.done(batch, self.now, took_s * 1000)
        for job in batch.jobs:
            self._write(partial(self._answered, job.payload, batch.option))
        self._pump()

    def _answer_inline(self, batch: Batch, took_s: float) -> None:
        """Write the answers before all else: they are written by who ran the call.

        Then what came during the call is read, and goes together.
        """
        self.strategy.done(batch, self.now, took_s * 1000)
        if self.turn is None:
            self.turn = batch.started
            self.waiting.append(_Work(0.0, self._end_turn))
        for job in reversed(batch.jobs):
            then = partial(self._answered, job.payload, batch.option)
            self.waiting.appendleft(_Work(self.half_s, then))

    def _end_turn(self, _took_s: float) -> None:
        self.turn = None
        self._pump()

    def _write(self, then: Callable[[float], None]) -> None:
        self.waiting.append(_Work(self.half_s, then))

    def _answered(self, index: int, option: Option, _took_s: float) -> None:
        arrival = self.arrivals[index]
        late = self.now - arrival.at > self._deadline_s(arrival)
        self._end(index, "late" if late else "in_time", option)

    def _refused(self, index: int, end: End, _took_s: float) -> None:
        self._end(index, end, None)

    def _end(self, index: int, end: End, option: Option | None) -> None:
        if index in self.ends:
            raise ValueError(f"request {index}: must end once, got {end!r} after it had ended.")
        arrival = self.arrivals[index]
        self.ends[index] = Outcome(arrival, end, self.now - arrival.at, option)

    def _deadline_s(self, arrival: Arrival) -> float:
        return self.deadline_s if arrival.deadline_ms is None else arrival.deadline_ms / 1000
