"""What was decided, for people and metrics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

from scanflow_serve.runtime.scheduler.jobs import Decision, Option, Reason
from scanflow_serve.runtime.scheduler.lane import Lane

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
        self, lane: Lane, option: Option, reason: Reason, now: float, figures: Mapping[str, float]
    ) -> None:
        """Count a batch that goes to *option*, and not to the one before.

        Slack does this at every other batch where it must; one decision a second tells enough.
        """
        self.switches[lane.name, reason] += 1
        before, lane.last = lane.last, option
        if not lane.strayed or now - self._slack_at.get(lane.name, -QUIET_S) < QUIET_S:
            return
        self._slack_at[lane.name] = now
        why = f"deadlines leave no time for {before.variant if before else 'a better one'}"
        self.record(lane, before, option, reason, now, why, figures)

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
