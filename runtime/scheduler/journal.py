"""What was decided, for people and metrics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

from scanflow_serve.runtime.scheduler.jobs import Decision, Job, Option, Reason
from scanflow_serve.runtime.scheduler.lane import Lane, Runner

KEPT = 100
QUIET_S = 1.0  # between two decisions of one lane that only slack explains


class Journal:
    """The latest decisions, and how often each reason made one.

    Attributes:
        decisions: The latest, oldest first.
        switches: How often another option than before took a batch, by lane and reason.
    """

    def __init__(self, notify: Callable[[Decision], None] | None = None) -> None:
        self.decisions: deque[Decision] = deque(maxlen=KEPT)
        self.switches: Counter[tuple[str, Reason]] = Counter()
        self._notify = notify
        self._slack_at: dict[str, float] = {}

    def switched(
        self, lane: Lane, runner: Runner, job: Job, strayed: bool, queued: int, now: float
    ) -> None:
        """Count a batch that goes to another option than the one before.

        Slack does this at every other batch where it must; one decision a second tells enough.

        Args:
            job: First of the batch.
            strayed: The lane would have started from another option, had there been time.
            queued: Jobs that wait.
        """
        before, lane.last = lane.last, runner.option
        reason: Reason = "rate"
        if before is None:
            reason = "start"
        elif strayed or lane.strayed:  # away for want of time, or back
            reason = "slack"
        elif job.goal is not None:
            reason = "prefer"
        lane.strayed = strayed
        self.switches[lane.name, reason] += 1
        if not strayed or now - self._slack_at.get(lane.name, -QUIET_S) < QUIET_S:
            return
        self._slack_at[lane.name] = now
        why = f"deadlines leave no time for {before.variant if before else 'a better one'}"
        figures = {
            "slack_ms": (job.due - now) * 1000,
            "queue": float(queued),
            "ratio": runner.health.ratio,
            "p95_ms": runner.p95_ms(job.rows),
        }
        self.record(lane, before, runner.option, "slack", now, why, figures)

    def record(
        self,
        lane: Lane,
        before: Option | None,
        after: Option | None,
        reason: Reason,
        now: float,
        why: str,
        figures: Mapping[str, float],
    ) -> None:
        """Keep one decision, and tell who listens."""
        decision = Decision(
            at=now,
            lane=lane.name,
            before=before.variant if before else None,
            after=after.variant if after else None,
            reason=reason,
            why=why,
            figures=figures,
        )
        self.decisions.append(decision)
        if self._notify is not None:
            self._notify(decision)
