"""Drives the scheduler on an event loop: runs what it decides, and answers who waits.

Context: a call of a small model takes 50 us; a future, a thread hop and a timer cost more than
that. But while a call runs on the event loop, whatever arrives waits where the scheduler can't
see it, in sockets and ready tasks.

Outcome: with nothing waiting, a short call runs in the caller's own coroutine. What arrives in the
same turn of the loop is held, and goes together at the next turn, as batches. Longer calls run on
worker threads.

Price: with many connections, all but the first request of a turn cost a future each (2 us).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from scanflow_serve.policies.errors import RequestError, WorkflowError
from scanflow_serve.runtime.engine.answerers import Answerer
from scanflow_serve.runtime.engine.black_box import BlackBox
from scanflow_serve.runtime.engine.calls import run_together, spoiled
from scanflow_serve.runtime.engine.tickets import Answer, Call, Failures, Ticket, tell
from scanflow_serve.runtime.scheduler.jobs import Batch, Job, Option
from scanflow_serve.runtime.scheduler.scheduler import Scheduler

NAN = "it gave NaN for rows that hold none"


class Dispatcher:
    """Runs batches, for one event loop at a time; its methods belong to that loop's thread.

    Args:
        cores: Calls on worker threads at the same time.
        idle: Called when a retired answerer's last call has ended.
        box: Where running calls are counted; None: nowhere.

    Attributes:
        waiting: Requests that are not answered yet, but for one that runs in its own coroutine.
        failures: Failed calls, by variant.
        inline_s: What calls on the event loop have taken together.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        cores: int,
        max_batch: int,
        idle: Callable[[], None],
        box: BlackBox | None = None,
    ) -> None:
        self.waiting = 0
        self.inline_s = 0.0
        self.failures: dict[str, Failures] = {}
        self._scheduler = scheduler
        self._max_batch = max_batch
        self._inline_ms = scheduler.tuning.inline_ms
        self._idle = idle
        self._box = box
        self._answerers: Mapping[Option, Answerer] = {}
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="inference")
        self._turn: asyncio.AbstractEventLoop | None = None  # in which a call has run already
        self._turn_began = 0.0

    def carry(self, answerers: Mapping[Option, Answerer]) -> None:
        """Answer by *answerers* from now on."""
        if self._box is not None:
            for answerer in answerers.values():
                answerer.place = self._box.place(answerer.variant)
        self._answerers = answerers

    async def answer(self, job: Job, now: float) -> Answer:
        """Return the answer to *job*, whose payload is a `Ticket`.

        Raises:
            RequestError: 503 queue full, 504 the deadline can't be met.
            ScanflowError: All that was tried failed.
        """
        loop = asyncio.get_running_loop()
        if self._turn is loop:
            return await self._held(job, loop, now)
        try:
            batch = self._scheduler.submit(job, now)
        finally:
            self._refuse_dropped()
        if batch is None:
            return await self._awaited(job, self._waiter(job, loop))
        if len(batch.jobs) == 1 and batch.jobs[0] is job and self._short(batch):
            self._begin_turn(loop, now)
            answerer = self._answerers[batch.option]
            call = self._run(batch, answerer)
            if call.error is None and not call.spoiled:
                outcome = call.outcomes[0]
                if not isinstance(outcome, Exception):
                    self._scheduler.done(batch, call.ended, (call.ended - call.started) * 1000)
                    answerer.used = call.ended
                    return Answer(answerer, outcome, call.started, call.ended, batch.rows)
            waiter = self._waiter(job, loop)
            self._ended(call, loop)
        else:
            waiter = self._waiter(job, loop)
            self._start(batch, self._answerers[batch.option], loop)
            self.pump()
        return await self._awaited(job, waiter)

    def pump(self) -> None:
        """Start all that may start."""
        loop = asyncio.get_running_loop()
        # After a call that has kept the loop busy, it first looks at what has arrived.
        while self._turn is not loop:
            batch = self._scheduler.next(time.perf_counter())
            if batch is None:
                break
            self._start(batch, self._answerers[batch.option], loop)
        self._refuse_dropped()

    def close(self) -> None:
        """Wait for the calls that run."""
        self._pool.shutdown(wait=True)

    # Turns of the loop ---------------------------------------------------------------------------

    async def _held(self, job: Job, loop: asyncio.AbstractEventLoop, now: float) -> Answer:
        # It may have been ready since the turn began, while a call kept the loop busy.
        job.due -= job.arrived - self._turn_began
        job.arrived = self._turn_began
        try:
            self._scheduler.hold(job, now)
        finally:
            self._refuse_dropped()
        return await self._awaited(job, self._waiter(job, loop))

    def _begin_turn(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._turn = loop
        self._turn_began = now
        loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn = None
        if self._scheduler.queued:
            self.pump()

    # Waiting -------------------------------------------------------------------------------------

    def _waiter(self, job: Job, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Answer]:
        ticket: Ticket = job.payload
        waiter = ticket.waiter = loop.create_future()
        if ticket.refusal is not None:
            waiter.set_exception(ticket.refusal)
        return waiter

    async def _awaited(self, job: Job, waiter: asyncio.Future[Answer]) -> Answer:
        self.waiting += 1
        try:
            return await waiter
        finally:
            self.waiting -= 1
            if waiter.cancelled():  # the client is gone
                self._scheduler.cancel(job)

    def _refuse_dropped(self) -> None:
        dropped = self._scheduler.dropped
        if dropped:
            for job, refusal in dropped:
                if job.payload.waiter is None:
                    job.payload.refusal = refusal
                else:
                    tell(job, refusal)
            dropped.clear()

    # Calls ---------------------------------------------------------------------------------------

    def _start(self, batch: Batch, answerer: Answerer, loop: asyncio.AbstractEventLoop) -> None:
        if self._short(batch):
            if self._turn is not loop:
                self._begin_turn(loop, time.perf_counter())
            self._ended(self._run(batch, answerer), loop)
            return
        answerer.running += 1
        if self._box is not None:
            self._box.enter(answerer.place)
        try:
            self._pool.submit(self._work, batch, answerer, loop)
        except RuntimeError:  # the pool is closed
            stopping = RequestError(503, "The server is stopping. Retry.", retry_after_s=1)
            self._finished(Call(batch, answerer, error=stopping), loop)

    def _work(self, batch: Batch, answerer: Answerer, loop: asyncio.AbstractEventLoop) -> None:
        call = self._call(batch, answerer)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._finished, call, loop)

    def _finished(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        answerer = call.answerer
        answerer.running -= 1
        if self._box is not None:
            self._box.leave(answerer.place)
        self._ended(call, loop)
        if answerer.retired and not answerer.running:
            self._idle()
        self.pump()

    def _short(self, batch: Batch) -> bool:
        """Return whether *batch* may run on the event loop."""
        limit_ms = self._inline_ms
        return batch.expected_ms <= limit_ms and batch.option.curve.p95_ms(batch.rows) <= limit_ms

    def _run(self, batch: Batch, answerer: Answerer) -> Call:
        """Return the call of *batch*, made on this thread."""
        box = self._box
        if box is None:
            call = self._call(batch, answerer)
        else:
            box.enter(answerer.place)
            try:
                call = self._call(batch, answerer)
            finally:
                box.leave(answerer.place)
        self.inline_s += call.ended - call.started
        return call

    def _call(self, batch: Batch, answerer: Answerer) -> Call:
        asked = [job.payload.request.inputs for job in batch.jobs]
        call = Call(batch, answerer, time.perf_counter())
        try:
            call.outcomes = run_together(answerer.pipeline.run, asked, batch.rows, self._max_batch)
        except Exception as error:  # a Python step may raise anything
            call.error = error
        except SystemExit as left:  # would end the server
            call.error = WorkflowError(
                f"{answerer.candidate.id}: its steps must return, got exit({left.code!r}). "
                "Raise an error instead."
            )
        call.ended = time.perf_counter()
        if answerer.floats and call.error is None:
            call.spoiled = spoiled(asked, call.outcomes, answerer.floats)
        return call

    def _ended(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        """Tell the scheduler, and who waits; or try what is to be tried instead."""
        batch = call.batch
        if call.error is None and not call.spoiled:
            self._scheduler.done(batch, call.ended, call.took_ms)
            call.answerer.used = call.ended
        else:
            why = NAN if call.error is None else f"{type(call.error).__name__}: {call.error}"
            failures = self.failures.setdefault(call.answerer.variant, Failures())
            failures.count, failures.text = failures.count + 1, why
            again = self._scheduler.failed(batch, call.ended, why)
            for each in again:
                # The lane may carry other options by now than the one that failed.
                answerer = self._answerers.get(each.option, call.answerer)
                self._start(each, answerer, loop)
            if again:
                return
        # What gives NaN everywhere gives it for a reason: then it is the answer.
        for job, outcome in zip(batch.jobs, call.outcomes, strict=False):
            tell(job, outcome, call)
        if call.error is not None:
            for job in batch.jobs:
                tell(job, call.error, call)
