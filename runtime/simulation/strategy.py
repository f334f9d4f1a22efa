"""What the simulated server asks: the part of `scheduler.Scheduler` that other rules have too."""

from __future__ import annotations

from typing import Protocol

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler.jobs import Batch, Job


class Strategy(Protocol):
    """What decides who answers; `scheduler.Scheduler` is one.

    Attributes:
        dropped: Jobs refused after they were admitted; taken out here.
    """

    dropped: list[tuple[Job, RequestError]]

    def submit(self, job: Job, now: float) -> Batch | None:
        """Admit *job*, or raise `RequestError`; return what may start."""
        ...

    def hold(self, job: Job, now: float) -> None:
        """Admit *job*, or raise `RequestError`; what may start is asked for later."""
        ...

    def next(self, now: float) -> Batch | None:
        """Return what else may start."""
        ...

    def done(self, batch: Batch, now: float, took_ms: float) -> None:
        """Take note that *batch* has been answered."""
        ...

    def tick(self, now: float) -> None:
        """Do what is to be done every tenth of a second, as the server's control loop does."""
        ...
