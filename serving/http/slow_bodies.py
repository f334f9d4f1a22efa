"""Bodies that do not come: one timer for all requests, where a timer each would cost 3 µs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from scanflow_serve.policies.errors import RequestError

PATIENCE_S = 30.0  # for the first byte, and again as grace over the whole body
SLOWEST = 4096  # bytes/s that a body must come at on average, after that; 16 MB get 70 minutes
SWEEP_S = 5.0  # how much later than due a body may be given up

Task: TypeAlias = "asyncio.Task[object]"


class SlowBodies:
    """Gives up requests whose bodies come too slowly; for one event loop.

    Without it a client that sends headers alone holds its request for as long as it likes.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[Task, float] = {}
        self._given_up: set[Task] = set()
        self._sweeping: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._due)

    def begin(self) -> Task | None:
        """Watch the current task from now on, until `end`; return it."""
        task = asyncio.current_task()
        if task is not None:
            self._due[task] = self._clock() + PATIENCE_S
        return task

    def came(self, task: Task | None, size: int) -> None:
        """Give a body more time, for the *size* bytes that came."""
        if task is not None:
            self._due[task] += size / SLOWEST

    def end(self, task: Task | None) -> None:
        """Watch a task no longer."""
        if task is not None:
            self._due.pop(task, None)
            self._given_up.discard(task)

    def gave_up(self, task: Task | None) -> bool:
        """Return whether a cancellation of the current *task* is ours alone, and lift it."""
        return task is not None and task in self._given_up and task.uncancel() == 0

    def sweep(self) -> None:
        """Cancel the tasks that are overdue."""
        now = self._clock()
        for task, due in self._due.items():
            if due < now and task not in self._given_up:
                self._given_up.add(task)
                task.cancel()

    def start(self) -> None:
        """Sweep every `SWEEP_S` seconds, until `stop`."""
        self._sweeping = asyncio.create_task(self._sweep_on())

    async def stop(self) -> None:
        """Sweep no longer."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
            self._sweeping = None

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()


def too_slow() -> RequestError:
    """Return the refusal of a body that came too slowly."""
    return RequestError(
        408,
        f"body must begin within {PATIENCE_S:g} s and then come at >= {SLOWEST} bytes/s, got less."
        " Send Content-Length bytes without pausing.",
    )
