"""The tap: from the request path to the checks, by a bounded ring, without a copy or a wait.

The request path pays for one tuple and one append. Arrays are handed over by reference: nobody
writes to a request's inputs or a response's outputs once it is answered, and an array over a
client's bytes (``np.frombuffer``) keeps those bytes alive. What does not fit is dropped and
counted: observations are lost, never predictions.

A batch costs checks milliseconds whatever its rows, and each of them is taken from requests, which
share the interpreter's lock. So rows are gathered for as long as keeps checks to a share of a core.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

from scanflow_serve.runtime.tensors import OutputKind, Tensors

MOST_ROWS = 20_000
MOST_BYTES = 64 * 1024 * 1024
SHARE = 0.02  # of a core that checks may take, while little waits
LEAST_GATHER_S, MOST_GATHER_S = 0.02, 0.5
MOST_GATHERED = 8 * 1024 * 1024  # bytes of arrays; pictures are many
STEP_S = 0.05  # between two looks at what has come


class Tapped(NamedTuple):
    """One answered request.

    Attributes:
        ids: Prediction id of each row.
        inputs: By public name, each of shape (rows, …).
        outputs: By public name, each of shape (rows, …).
        output: Public name of the classification output; None if there is none.
        kind: What that output holds.
        variant: `Candidate.variant_id` of what answered.
        at: Unix time of the answer, in s.
        session: What the client said these rows belong to; "" if nothing.
        size: Bytes of all arrays.
    """

    ids: Sequence[str]
    inputs: Tensors
    outputs: Tensors
    output: str | None
    kind: OutputKind
    variant: str
    at: float
    session: str
    size: int


class Tap:
    """A bounded ring of answered requests, for one thread that puts and one that drains.

    Args:
        most_rows: Rows that may wait.
        most_bytes: Bytes of arrays that may wait.
        clock: Seconds that only go forward.
        pause: Waits so many seconds, or until the tap is closed.

    Attributes:
        dropped_rows: Rows that found the ring full, since the start.
        dropped_requests: Requests that did.
    """

    def __init__(
        self,
        most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._ring: deque[Tapped] = deque()
        # Each counter has one writer, so that neither thread needs a lock.
        self._put_rows = self._put_bytes = 0
        self._taken_rows = self._taken_bytes = 0
        self.dropped_rows = 0
        self.dropped_requests = 0
        self._idle = False
        self._woken = threading.Event()
        self._closed = threading.Event()
        self._clock = clock
        self._pause = pause or self._closed.wait
        self._handed = inf  # when the batch before was

    @property
    def waiting_rows(self) -> int:
        """Return how many rows wait."""
        return self._put_rows - self._taken_rows

    @property
    def waiting_bytes(self) -> int:
        """Return how many bytes of arrays wait."""
        return self._put_bytes - self._taken_bytes

    def put(
        self,
        ids: Sequence[str],
        inputs: Tensors,
        outputs: Tensors,
        output: str | None,
        kind: OutputKind,
        variant: str,
        session: str = "",
    ) -> bool:
        """Hand one answered request over; return False if the ring is full, and it is dropped."""
        rows = len(ids)
        size = 0
        for array in inputs.values():
            size += array.nbytes
        for array in outputs.values():
            size += array.nbytes
        if (
            self._put_rows - self._taken_rows + rows > self._most_rows
            or self._put_bytes - self._taken_bytes + size > self._most_bytes
        ):
            self.dropped_rows += rows
            self.dropped_requests += 1
            return False
        self._ring.append(
            Tapped(ids, inputs, outputs, output, kind, variant, time.time(), session, size)
        )
        self._put_rows += rows
        self._put_bytes += size
        if self._idle:
            self._woken.set()
        return True

    def drain(self, timeout_s: float | None = None, most_rows: int = 2048) -> list[Tapped]:
        """Return what has come, oldest first; wait up to *timeout_s* for something, then for more.

        The time since the last call counts as that of looking at what it returned; the more that
        was, the longer this one gathers.

        Args:
            timeout_s: 0: neither wait nor gather.
            most_rows: Stop at the request that reaches so many; the others stay for the next call.

        Returns:
            Nothing if nothing came in time, or the tap was closed.
        """
        busy_s = max(0.0, self._clock() - self._handed)
        if not self._ring:
            self._await(timeout_s)
        if timeout_s != 0:
            self._gather(gathering_s(busy_s), most_rows)
        taken: list[Tapped] = []
        rows = 0
        while self._ring and rows < most_rows:
            tapped = self._ring.popleft()
            rows += len(tapped.ids)
            self._taken_rows += len(tapped.ids)
            self._taken_bytes += tapped.size
            taken.append(tapped)
        self._handed = self._clock()
        return taken

    def close(self) -> None:
        """Wake who waits; `drain` waits no more."""
        self._closed.set()
        self._woken.set()

    def _await(self, timeout_s: float | None) -> None:
        if self._closed.is_set():
            return
        self._idle = True
        if not self._ring:  # what was put before `_idle` was seen has woken nobody
            self._woken.wait(timeout_s)
        self._idle = False
        self._woken.clear()

    def _gather(self, most_s: float, most_rows: int) -> None:
        """Wait for more rows, until *most_s* are over or there are enough of them."""
        end = self._clock() + most_s
        rows = min(most_rows, self._most_rows // 2)
        size = min(MOST_GATHERED, self._most_bytes // 2)
        while 0 < self.waiting_rows < rows and self.waiting_bytes < size:
            left = end - self._clock()
            if left <= 0 or self._closed.is_set():
                return
            self._pause(min(STEP_S, left))


def gathering_s(busy_s: float) -> float:
    """Return how long to gather rows where those before took *busy_s*.

    >>> gathering_s(0.004), gathering_s(0.0), gathering_s(1.0)
    (0.2, 0.02, 0.5)
    """
    return min(MOST_GATHER_S, max(LEAST_GATHER_S, busy_s / SHARE))
