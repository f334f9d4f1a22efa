"""What the scheduler is given and what it gives out: options, jobs, batches, decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from scanflow_serve.runtime.scheduler.curve import Curve

# What "best" may mean for one request; `objective` is the policy's.
Goal: TypeAlias = Literal["objective", "accuracy", "latency", "balanced"]
GOALS: tuple[Goal, ...] = ("objective", "accuracy", "latency", "balanced")

# Why another option answers than the one before; the labels of the switch counter.
Reason: TypeAlias = Literal[
    "start", "rate", "slack", "prefer", "rule", "pin", "failure", "recovery", "loaded", "unloaded"
]


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One loaded candidate that may answer: what the scheduler knows of it.

    Attributes:
        id: `Candidate.id`.
        variant: `Candidate.variant_id`.
        models: Models that fill its slots.
        curve: Latency by rows, as measured on this host.
        threads: Cores that a call keeps busy.
        accuracy: On the validation set, or as declared; None if neither is known.
        worth: By goal, higher is better; of two options the one with the higher worth is taken
            where time allows. Options that can't be told apart have equal worth but for what
            breaks the tie.
    """

    id: str
    variant: str
    models: tuple[str, ...]
    curve: Curve
    threads: int
    accuracy: float | None
    worth: Mapping[Goal, float]


@dataclass(slots=True, eq=False)
class Job:
    """One admitted request.

    Attributes:
        lane: Which options may answer it.
        arrived: When it came, in s by the caller's clock.
        due: By when it must be answered.
        client: Who sent it; queues are shared fairly between clients and lanes.
        priority: Lower runs first; jobs of one priority run earliest deadline first.
        goal: What the client asked for; None: what rules and the objective say.
        payload: The caller's; not looked at.
        cost_ms: What it takes of the whole host on the cheapest option, in ms; set when it is
            queued.
        call_ms: p95 of the call that it is expected to share; set when it is queued.
        order: Position among equals; set when it is queued.
    """

    lane: str
    rows: int
    arrived: float
    due: float
    client: str = ""
    priority: int = 0
    goal: Goal | None = None
    payload: Any = None
    cost_ms: float = 0.0
    call_ms: float = 0.0
    order: int = 0


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs that one option is to answer in one call.

    Attributes:
        expected_ms: p50 of the call, as things run at present.
        pace: What the curve's latencies are to be multiplied by, as cores idle; see `Curve.pace`.
        attempt: 1; 2 where another option failed before; 3 for a job by itself, where two
            options failed on the batch that it was in.
        failed: The option that failed before, and is to blame if this call goes well.
        why: What that option said when it failed.
        trial: The option had failed before, and is tried again.
    """

    lane: str
    option: Option
    jobs: list[Job]
    rows: int
    started: float
    expected_ms: float
    pace: float = 1.0
    attempt: int = 1
    failed: Option | None = None
    why: str = ""
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of what answers a lane, as ``GET /plan`` shows it.

    Attributes:
        at: By the caller's clock, in s.
        before: Option that answered before, None at first.
        after: Option that answers from now on, None if there is none.
        why: One sentence for people.
        figures: What decided, such as rate, slack, ratio.
    """

    at: float
    lane: str
    before: str | None
    after: str | None
    reason: Reason
    why: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without the time: only the caller knows its clock's origin."""
        return {
            "lane": self.lane,
            "from": self.before,
            "to": self.after,
            "reason": self.reason,
            "why": self.why,
            "figures": dict(self.figures),
        }
