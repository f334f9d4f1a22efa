"""Which bounds of the objective a candidate breaks, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scanflow_serve.policies.schema import Objective
from scanflow_serve.runtime.figures import constraint_figure
from scanflow_serve.runtime.measurements import Measurement


@dataclass(frozen=True, slots=True)
class Violation:
    """One bound that one candidate breaks.

    Attributes:
        key: As in ``objective.subject_to``.
        limit: The bound.
        value: What was measured.
    """

    key: str
    limit: float
    value: float

    @property
    def excess(self) -> float:
        """Return by how much of the bound it is broken: 0.5 is half as much again."""
        return abs(self.value - self.limit) / max(abs(self.limit), 1e-9)

    def __str__(self) -> str:
        """Return figure, bound and margin: ``latency p95 31.2 ms > 20 ms (56 % over)``."""
        figure = constraint_figure(self.key)
        if figure.key == "accuracy":
            margin = f"{abs(self.value - self.limit):.3g} short"
        else:
            margin = f"{100 * self.excess:.2g} % {'under' if figure.higher else 'over'}"
            if self.excess >= 1 and not figure.higher:
                margin = f"{self.value / self.limit:.3g} times"
        return f"{figure.compare(self.value, self.limit)} ({margin})"


def bounds(objective: Objective) -> dict[str, float]:
    """Return the constraints that the policy sets, keyed as in ``subject_to``."""
    return objective.subject_to.model_dump(exclude_none=True)


def violations(limits: Mapping[str, float], measurement: Measurement) -> tuple[Violation, ...]:
    """Return the bounds that *measurement* breaks; a figure that is not known breaks none."""
    found = []
    for key, limit in limits.items():
        figure = constraint_figure(key)
        value = figure.of(measurement)
        if value is not None and figure.better(limit, value):
            found.append(Violation(key, limit, value))
    return tuple(found)
