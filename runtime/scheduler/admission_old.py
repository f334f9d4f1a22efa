"""Admission: which request may start, and which is refused before it costs anything.

Pure bookkeeping over measured latencies: the clock is the caller's, nothing here waits or runs.
Requests run in order of arrival; each is refused at once if its deadline can't be met behind
the work already admitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.measurements import Measurement

# Where nothing was measured (a run without a model slot) a request is taken to cost this.
UNMEASURED_MS = 0.1


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request is expected to take, in ms."""

    p50_ms: float
    p95_ms: float


def cost(measurement: Measurement | None, rows: int) -> Cost:
    """Return the expected cost of *rows* rows.

    Between two measured batch sizes the larger one's latency is taken; beyond the largest,
    it is scaled by the number of such batches.
    """
    if measurement is None:
        return Cost(UNMEASURED_MS, UNMEASURED_MS)
    measured = measurement.latency.get(rows)
    if measured is not None:
        return Cost(measured.p50_ms, measured.p95_ms)
    sizes = sorted(measurement.latency)
    size = next((n for n in sizes if n >= rows), sizes[-1])
    batches = -(-rows // size) if rows > size else 1
    at = measurement.latency[size]
    return Cost(at.p50_ms * batches, at.p95_ms * batches)


@dataclass(slots=True)
class Admission:
    """The queue of one server: how much is admitted and not yet done.

    Attributes:
        workers: Requests that can run at the same time.
        max_queue: Requests that may wait behind those that run.
    """

    workers: int
    max_queue: int
    in_flight: int = 0
    _backlog_ms: float = field(default=0.0)

    @property
    def queued(self) -> int:
        """Return how many admitted requests are waiting."""
        return max(0, self.in_flight - self.workers)

    @property
    def wait_ms(self) -> float:
        """Return how long a new request would wait before it starts, in ms."""
        if self.in_flight < self.workers:
            return 0.0
        return self._backlog_ms / self.workers

    def admit(self, expected: Cost, deadline_ms: float) -> None:
        """Count a request in.

        Raises:
            RequestError: 503 if the queue is full, 504 if the deadline can't be met.
        """
        wait_ms = self.wait_ms
        if self.queued >= self.max_queue:
            raise RequestError(
                503,
                f"The queue is full: scheduling.max_queue is {self.max_queue}. Retry later.",
                retry_after_s=max(1.0, wait_ms / 1000),
            )
        if wait_ms + expected.p95_ms > deadline_ms:
            raise late(wait_ms, expected, deadline_ms)
        self.in_flight += 1
        self._backlog_ms += expected.p50_ms

    def release(self, expected: Cost) -> None:
        """Count a request out, whether it was answered or failed."""
        self.in_flight -= 1
        self._backlog_ms = max(0.0, self._backlog_ms - expected.p50_ms) if self.in_flight else 0.0


def late(wait_ms: float, expected: Cost, deadline_ms: float) -> RequestError:
    """Return the refusal of a request that can't meet its deadline."""
    return RequestError(
        504,
        f"The deadline can't be met: {wait_ms:.3g} ms of queue and {expected.p95_ms:.3g} ms (p95) "
        f"of inference exceed {deadline_ms:.4g} ms. Send a larger Scanflow-Deadline-Ms, "
        "send fewer rows, or retry later.",
        retry_after_s=max(1.0, wait_ms / 1000),
    )
