"""What waits, what ran and what came of it: the values that pass through the dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.engine.answerers import Answerer
from scanflow_serve.runtime.engine.calls import Outcome
from scanflow_serve.runtime.requests import Request
from scanflow_serve.runtime.scheduler.jobs import Batch, Job
from scanflow_serve.runtime.tensors import Tensors


@dataclass(slots=True, eq=False)
class Answer:
    """What became of one request.

    Attributes:
        started: When inference began, by `time.perf_counter`.
        batch_rows: Rows of the call.
    """

    answerer: Answerer
    outputs: Tensors
    started: float
    ended: float
    batch_rows: int


@dataclass(slots=True, eq=False)
class Ticket:
    """A job's payload: what is asked, and who waits.

    Attributes:
        waiter: None as long as the job may run in its own coroutine.
        refusal: Why it was dropped before anybody waited for it.
    """

    request: Request
    waiter: asyncio.Future[Answer] | None = None
    refusal: RequestError | None = None


@dataclass(slots=True, eq=False)
class Call:
    """One batch, and how its call went.

    Attributes:
        outcomes: Of its jobs, in order; empty if it raised *error*.
        spoiled: The outcomes hold NaN that was not in the inputs.
    """

    batch: Batch
    answerer: Answerer
    started: float = 0.0
    ended: float = 0.0
    outcomes: Sequence[Outcome] = ()
    error: Exception | None = None
    spoiled: bool = False

    @property
    def took_ms(self) -> float:
        """Return how long it took, in ms; what was expected, if that tells nothing of its speed."""
        for outcome in self.outcomes:
            if isinstance(outcome, Exception):
                return self.batch.expected_ms
        return (self.ended - self.started) * 1000


@dataclass(slots=True)
class Failures:
    """How often calls of one variant failed, and what the last one said."""

    count: int = 0
    text: str = ""


def tell(job: Job, outcome: Outcome | Exception, call: Call | None = None) -> None:
    """Give who waits for *job* its outcome, unless they are gone."""
    waiter = job.payload.waiter
    if waiter is None or waiter.done():
        return
    if isinstance(outcome, Exception):
        waiter.set_exception(outcome)
    elif call is not None:
        rows = call.batch.rows
        waiter.set_result(Answer(call.answerer, outcome, call.started, call.ended, rows))
