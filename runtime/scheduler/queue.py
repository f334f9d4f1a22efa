"""The queue: by priority, then earliest deadline first, then in order of arrival."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Iterator
from itertools import islice

from scanflow_serve.runtime.scheduler.jobs import Job

Key = tuple[int, float, int]
Flow = tuple[str, str]  # lane and client


class Queue:
    """Jobs that wait, sorted; what they cost, and how much of it is each flow's.

    At most a few hundred jobs long, so that a list is faster than a heap, and can be looked at.
    """

    __slots__ = ("_cost_ms", "_entries", "_flows", "_order")

    def __init__(self) -> None:
        self._entries: list[tuple[Key, Job]] = []
        self._flows: dict[Flow, tuple[int, float]] = {}  # jobs, and their cost in ms
        self._cost_ms = 0.0
        self._order = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Job]:
        return (job for _, job in self._entries)

    @property
    def cost_ms(self) -> float:
        """Return what all jobs cost together."""
        return self._cost_ms

    @property
    def head(self) -> Job:
        """Return the job that is next."""
        return self._entries[0][1]

    def position(self, job: Job) -> int:
        """Return how many jobs a new *job* would have before it."""
        last = self._entries[-1][0] if self._entries else None
        key = (job.priority, job.due, self._order)
        if last is None or last < key:
            return len(self._entries)
        return bisect(self._entries, key, key=_key)

    def cost_before(self, position: int) -> float:
        """Return what the first *position* jobs cost together, in ms."""
        if position >= len(self._entries):
            return self._cost_ms
        return sum(job.cost_ms for _, job in self._entries[:position])

    def from_position(self, position: int) -> Iterator[Job]:
        """Yield the jobs from *position* on, in order."""
        return (job for _, job in islice(self._entries, position, None))

    def only_flow_of(self, job: Job) -> bool:
        """Return whether all that waits is of the same lane and client as *job*."""
        return len(self._flows) == ((job.lane, job.client) in self._flows)

    def flow_cost(self, job: Job) -> float:
        """Return what the waiting jobs of the same lane and client cost together, in ms."""
        return self._flows.get((job.lane, job.client), (0, 0.0))[1]

    def dearest_flow(self) -> tuple[Flow, float]:
        """Return the flow whose waiting jobs cost most, and that cost; at least one waits."""
        flow, (_, cost_ms) = max(self._flows.items(), key=lambda item: item[1][1])
        return flow, cost_ms

    def latest_of(self, flow: Flow, before: int) -> Iterator[Job]:
        """Yield the jobs of *flow* among the first *before*, the last first."""
        lane, client = flow
        for at in range(min(before, len(self._entries)) - 1, -1, -1):
            job = self._entries[at][1]
            if job.client == client and job.lane == lane:
                yield job

    def add(self, job: Job) -> None:
        """Queue *job*."""
        job.order = self._order
        self._order += 1
        insort(self._entries, ((job.priority, job.due, job.order), job), key=_key)
        flow = (job.lane, job.client)
        count, cost_ms = self._flows.get(flow, (0, 0.0))
        self._flows[flow] = (count + 1, cost_ms + job.cost_ms)
        self._cost_ms += job.cost_ms

    def remove(self, job: Job) -> bool:
        """Take *job* out; return whether it was there."""
        key = (job.priority, job.due, job.order)
        at = bisect(self._entries, key, key=_key) - 1
        if at < 0 or self._entries[at][1] is not job:
            return False
        del self._entries[at]
        flow = (job.lane, job.client)
        count, cost_ms = self._flows[flow]
        if count > 1:
            self._flows[flow] = (count - 1, cost_ms - job.cost_ms)
        else:
            del self._flows[flow]
        # Not a difference of sums once empty: rounding must not add up over days.
        self._cost_ms = self._cost_ms - job.cost_ms if self._entries else 0.0
        return True


def _key(entry: tuple[Key, Job]) -> Key:
    return entry[0]
