"""The tap: from the request path to the checks, by a bounded ring, without a copy or a wait.

The request path pays for one tuple and one append. Arrays are handed over by reference: nobody
writes to a request's inputs or a response's outputs once it is answered, and an array over a
client's bytes (``np.frombuffer``) keeps those bytes alive. What does not fit is dropped and
counted: observations are lost, never predictions.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from scanflow_serve.runtime.tensors import OutputKind, Tensors

MOST_ROWS = 20_000
MOST_BYTES = 64 * 1024 * 1024
GATHER_S = 0.02  # a worker that was woken waits this long for more: fewer, larger batches


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

    Attributes:
        dropped_rows: Rows that found the ring full, since the start.
        dropped_requests: Requests that did.
    """

    def __init__(self, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> None:
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
        self._closed = False

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
        """Return what has come, oldest first; wait up to *timeout_s* for something.

        Args:
            most_rows: Stop at the request that reaches so many; the others stay for the next call.

        Returns:
            Nothing if nothing came in time, or the tap was closed.
        """
        if not self._ring:
            self._await(timeout_s)
        taken: list[Tapped] = []
        rows = 0
        while self._ring and rows < most_rows:
            tapped = self._ring.popleft()
            rows += len(tapped.ids)
            self._taken_rows += len(tapped.ids)
            self._taken_bytes += tapped.size
            taken.append(tapped)
        return taken

    def close(self) -> None:
        """Wake who waits; `drain` waits no more."""
        self._closed = True
        self._woken.set()

    def _await(self, timeout_s: float | None) -> None:
        if self._closed:
            return
        self._idle = True
        if not self._ring:  # what was put before `_idle` was seen has woken nobody
            self._woken.wait(timeout_s)
        self._idle = False
        self._woken.clear()
        if self._ring and not self._closed:
            time.sleep(GATHER_S)
        if self._closed:
            self._woken.set()
