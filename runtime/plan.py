"""The outcome of selection on one host: explainable and serialisable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanflow_serve.runtime.measurements import Measurement, Refusal
from scanflow_serve.runtime.variants import Candidate


@dataclass(frozen=True, slots=True)
class Verdict:
    """One candidate of a plan.

    Attributes:
        measurement: None if it could not be measured.
        rejected: The one reason why it was not chosen; None for the chosen one.
        pareto: On the frontier of accuracy, latency and memory among the feasible.
    """

    candidate: Candidate
    measurement: Measurement | None
    rejected: Refusal | None
    pareto: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs on this host, what else could, and why.

    Attributes:
        policy: The policy's name.
        host: HostProfile.fingerprint.
        target: Index of the target that matched, 0-based, and its condition ("" if none).
        run: As the policy says it: a name, ``any: …`` or ``sequence: …``.
        objective: Text of the objective and its constraints.
        goal: What "best" meant: a figure of the objective, or ``balanced``.
        bounds: The constraints, keyed as in ``objective.subject_to``.
        chosen: The best candidate by the objective.
        standbys: Others worth keeping warm, on the Pareto frontier, best first.
        verdicts: Every candidate, the chosen first, then by the objective.
        feasible: False if constraints were broken under ``on_infeasible: best_effort``.
        notes: What a person should know, such as sections that are not active.
    """

    policy: str
    host: str
    target: int
    when: str
    run: str
    objective: str
    chosen: Candidate
    standbys: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]
    feasible: bool = True
    notes: tuple[str, ...] = field(default=())
    goal: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as ``GET /plan`` shows it."""
        return {
            "policy": self.policy,
            "host": self.host,
            "target": {"index": self.target, "when": self.when, "run": self.run},
            "objective": self.objective,
            "goal": self.goal,
            "bounds": dict(self.bounds),
            "chosen": self.chosen.to_json() | {"id": self.chosen.id},
            "standbys": [c.to_json() | {"id": c.id} for c in self.standbys],
            "feasible": self.feasible,
            "notes": list(self.notes),
            "candidates": [
                {
                    **verdict.candidate.to_json(),
                    "id": verdict.candidate.id,
                    "pareto": verdict.pareto,
                    "measurement": verdict.measurement and verdict.measurement.to_json(),
                    "rejected": verdict.rejected and verdict.rejected.to_json(),
                }
                for verdict in self.verdicts
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Return the plan whose JSON form is *value*."""
        verdicts = tuple(
            Verdict(
                candidate=Candidate.from_json(item),
                measurement=item["measurement"] and Measurement.from_json(item["measurement"]),
                rejected=item["rejected"] and Refusal(**item["rejected"]),
                pareto=item["pareto"],
            )
            for item in value["candidates"]
        )
        return cls(
            policy=value["policy"],
            host=value["host"],
            target=value["target"]["index"],
            when=value["target"]["when"],
            run=value["target"]["run"],
            objective=value["objective"],
            goal=value["goal"],
            bounds=value["bounds"],
            chosen=Candidate.from_json(value["chosen"]),
            standbys=tuple(Candidate.from_json(c) for c in value["standbys"]),
            verdicts=verdicts,
            feasible=value["feasible"],
            notes=tuple(value["notes"]),
        )
