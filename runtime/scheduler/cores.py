"""The host's cores: what runs on them, how long still, and when enough of them are free."""

from __future__ import annotations

import math

from scanflow_serve.runtime.scheduler.jobs import Batch, Option

# A call that should have ended is taken to last as long again as it is late by now, and this
# share of what was expected at least: what stalls tends to go on.
LEAST_LEFT = 0.1


class Cores:
    """Calls that run, and the cores they keep busy.

    Attributes:
        count: Cores in all.
        free: Cores that nothing keeps busy; negative while a batch is tried again elsewhere.
    """

    __slots__ = ("_running", "count", "free")

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._running: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, batch: Batch) -> None:
        """Count *batch* in."""
        self._running[id(batch)] = batch
        self.free -= min(batch.option.threads, self.count)

    def end(self, batch: Batch) -> None:
        """Count *batch* out.

        Raises:
            ValueError: It does not run; it must not be answered twice.
        """
        if self._running.pop(id(batch), None) is None:
            raise ValueError(
                f"{batch.option.id}: a batch must run to end, got one that does not. "
                "End each batch once, by `done` or by `failed`."
            )
        self.free += min(batch.option.threads, self.count)

    def pace(self, option: Option) -> float:
        """Return what its curve is to be multiplied by for a call that starts now."""
        if option.curve.contention == 1.0:
            return 1.0
        most = self.count // min(option.threads, self.count)
        return option.curve.pace(len(self._running), most - 1)

    def busy_ms(self, now: float) -> float:
        """Return what is left of the calls that run, in ms of the whole host."""
        left = 0.0
        for batch in self._running.values():
            left += _left_ms(batch, now) * min(batch.option.threads, self.count)
        return left / self.count

    def turn_ms(self, threads: int, call_ms: float, now: float) -> float:
        """Return when the next call can begin if one of *call_ms* takes *threads* now, in ms."""
        if self.free > threads:
            return 0.0
        left = (_left_ms(batch, now) for batch in self._running.values())
        return min(call_ms, *left) if self._running else call_ms

    def free_at(self, threads: int, now: float) -> float:
        """Return when *threads* cores, all at most, will be free; *now* only if they are."""
        free = self.free
        if threads <= free:
            return now
        for left_ms, freed in sorted(
            (_left_ms(batch, now), batch.option.threads) for batch in self._running.values()
        ):
            free += min(freed, self.count)
            if free >= threads:
                return now + left_ms / 1000
        return math.inf  # more than there are


def _left_ms(batch: Batch, now: float) -> float:
    """Return how long *batch* will still run, in ms, > 0."""
    passed_ms = (now - batch.started) * 1000
    left_ms = batch.expected_ms - passed_ms
    return left_ms if left_ms > 0 else max(-left_ms, LEAST_LEFT * batch.expected_ms, 1e-3)
