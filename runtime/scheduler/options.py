"""From a plan's candidates and their measurements to what the scheduler chooses between."""

from __future__ import annotations

from collections.abc import Sequence

from scanflow_serve.runtime.figures import FIGURES
from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.ranking import BALANCED, Entry, distances, ranked
from scanflow_serve.runtime.scheduler.curve import Curve
from scanflow_serve.runtime.scheduler.jobs import Goal, Option
from scanflow_serve.runtime.variants import Candidate

# What stands before another by a tie-break alone is worth this much more: nothing is given up
# for it, and no mix is made of the two.
TIE = 1e-9
UNKNOWN = -1e12


def options(
    candidates: Sequence[tuple[Candidate, Measurement | None]], goal: str, max_batch: int
) -> tuple[Option, ...]:
    """Return the *candidates* of one lane as options, best by the objective first.

    Args:
        candidates: With their figures; None where nothing was measured.
        goal: The policy's: a figure, or ``balanced``; see `selection.goal_of`.
        max_batch: Rows of one call.
    """
    known = [(candidate, measured) for candidate, measured in candidates if measured is not None]
    spans = distances([Entry(candidate, measured) for candidate, measured in known])
    entries = [
        Entry(candidate, measured, distance=span)
        for (candidate, measured), span in zip(known, spans, strict=True)
    ]
    goals: dict[Goal, str] = {
        "objective": goal,
        "accuracy": "accuracy",
        "latency": "latency_p95_ms",
        "balanced": BALANCED,
    }
    worths = {name: _worths(entries, figure) for name, figure in goals.items()}
    made = [
        Option(
            id=candidate.id,
            variant=candidate.variant_id,
            models=candidate.models,
            curve=Curve.of(measured, max_batch),
            threads=max((variant.threads for variant in candidate.variants), default=1),
            accuracy=None if measured is None else measured.accuracy,
            worth={name: worth.get(candidate.id, UNKNOWN) for name, worth in worths.items()},
        )
        for candidate, measured in candidates
    ]
    return tuple(sorted(made, key=lambda option: -option.worth["objective"]))


def _worths(entries: Sequence[Entry], goal: str) -> dict[str, float]:
    """Return what each entry is worth by *goal*, falling along the ranking."""
    found: dict[str, float] = {}
    least = float("inf")
    if goal != BALANCED:  # the ranking goes by distance where there is one
        entries = [Entry(entry.candidate, entry.measurement) for entry in entries]
    spans = {entry.candidate.id: entry.distance for entry in entries}
    for entry in ranked(entries, goal):
        key = entry.candidate.id
        value = -spans[key] if goal == BALANCED else _value(entry.measurement, goal)
        least = min(value, least - TIE)
        found[key] = least
    return found


def _value(measurement: Measurement, goal: str) -> float:
    figure = FIGURES[goal]
    value = figure.of(measurement)
    if value is None:  # not measurable here: worth no more than any that is known
        return UNKNOWN
    return value if figure.higher else -value
