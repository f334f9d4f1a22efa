"""The host's cores: what runs on them, how long still, and when enough of them are free."""

from __future__ import annotations

from scanflow_serve.runtime.scheduler.jobs import Batch


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
            raise ValueError(f"{batch.option.id}: a batch must run to end, got one that does not.")
        self.free += min(batch.option.threads, self.count)

    def busy_ms(self, now: float) -> float:
        """Return what is left of the calls that run, in ms of the whole host."""
        left = 0.0
        for batch in self._running.values():
            end = batch.started + batch.expected_ms / 1000
            if end > now:
                left += (end - now) * 1000 * min(batch.option.threads, self.count)
        return left / self.count

    def free_at(self, threads: int, now: float) -> float:
        """Return when *threads* cores will be free, as far as calls take what is expected."""
        free = self.free
        if threads <= free:
            return now
        ends = (
            (b.started + b.expected_ms / 1000, b.option.threads) for b in self._running.values()
        )
        for end, freed in sorted(ends):
            free += min(freed, self.count)
            if free >= threads:
                return max(now, end)
        return now
