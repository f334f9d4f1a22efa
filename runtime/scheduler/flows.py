"""What each client was granted lately, lane by lane: the measure of a fair share."""

from __future__ import annotations

import math
from typing import TypeAlias

from scanflow_serve.runtime.scheduler.jobs import Job

Flow: TypeAlias = tuple[str, str]  # lane and client

SPAN_S = 1.0  # how long what was granted counts
FORGOTTEN_MS = 0.01  # what is left of a grant when it no longer counts


class Flows:
    """Cost of the jobs that each flow was granted, fading over about a second.

    What waits is no measure of a share: a client whose jobs overtake has little waiting, just
    because it is always served. Grants that are not used are taken back.
    """

    __slots__ = ("_granted", "_since")

    def __init__(self, now: float) -> None:
        self._granted: dict[Flow, float] = {}
        self._since = now

    def tick(self, now: float) -> None:
        """Fade what was granted, and forget who has had nothing lately."""
        fade = math.exp((self._since - now) / SPAN_S)
        self._granted = {
            flow: cost_ms * fade
            for flow, cost_ms in self._granted.items()
            if cost_ms * fade > FORGOTTEN_MS
        }
        self._since = now

    def grant(self, job: Job) -> None:
        """Count *job* in, at its cost."""
        flow = (job.lane, job.client)
        self._granted[flow] = self._granted.get(flow, 0.0) + job.cost_ms

    def take_back(self, job: Job) -> None:
        """Count *job* out: it was not answered."""
        flow = (job.lane, job.client)
        if flow in self._granted:
            self._granted[flow] = max(0.0, self._granted[flow] - job.cost_ms)

    def granted_ms(self, flow: Flow) -> float:
        """Return what *flow* was granted lately, in ms of the whole host."""
        return self._granted.get(flow, 0.0)
