"""Orders candidates by an objective, with ties; finds the Pareto frontier and its knee.

Latency is measured with noise, so "better" is decided criterion by criterion: the candidates
tied with the best of the first criterion go on to the second, and so on. The outcome does not
depend on the order in which candidates are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scanflow_serve.runtime.figures import AXES, FIGURES, Figure
from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.variants import Candidate

BALANCED = "balanced"


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate with its figures; `penalty` comes before every other criterion.

    Attributes:
        penalty: Sum of the broken bounds' excess, 0 for a feasible candidate.
        distance: From the ideal point, for the goal ``balanced``; see `distances`.
    """

    candidate: Candidate
    measurement: Measurement
    penalty: float = 0.0
    distance: float = 0.0


def criteria(goal: str) -> tuple[Figure, ...]:
    """Return what decides after `Entry.penalty` and `Entry.distance`: the goal, then the ties.

    Ties are broken by latency, then size; what is tied then by accuracy and memory.
    """
    ties = ("latency_p95_ms", "size_mb", "accuracy", "memory_mb")
    keys = ties if goal == BALANCED else (goal, *(key for key in ties if key != goal))
    return tuple(FIGURES[key] for key in keys)


def best(entries: Sequence[Entry], goal: str) -> Entry:
    """Return the best of *entries*, at least one."""
    *_, (_, left) = _rounds(entries, goal)
    return min(left, key=lambda entry: (entry.candidate.threads, entry.candidate.id))


def ranked(entries: Sequence[Entry], goal: str) -> list[Entry]:
    """Return *entries* from best to worst."""
    rest, order = list(entries), []
    while rest:
        order.append(best(rest, goal))
        rest.remove(order[-1])
    return order


def reasons(entries: Sequence[Entry], goal: str) -> dict[str, str]:
    """Return why each of *entries* but the best was not chosen, by candidate id.

    Such as ``as accurate, but slower: latency p95 0.2 ms > 0.1 ms``; one reason each, from the
    first criterion in which it fell behind.
    """
    chosen = best(entries, goal)
    found: dict[str, str] = {}
    ties: list[str] = []
    left = entries
    for figure, kept in _rounds(entries, goal):
        ids = {entry.candidate.id for entry in kept}
        for entry in left:
            if entry.candidate.id not in ids:
                found[entry.candidate.id] = _fell_behind(entry, chosen, figure, ties)
        if figure is not None and figure.of(chosen.measurement) is not None:
            ties.append(figure.tie)
        left = kept
    for entry in left:
        more, fewer = entry.candidate.threads, chosen.candidate.threads
        if more > fewer:
            found[entry.candidate.id] = f"no better, but uses more threads: {more} > {fewer}"
        elif entry is not chosen:
            found[entry.candidate.id] = "no different in any figure; the first by name was taken"
    return found


def _rounds(entries: Sequence[Entry], goal: str) -> Iterator[tuple[Figure | None, Sequence[Entry]]]:
    """Yield each criterion with those that it leaves; None for penalty and distance."""
    least = min((entry.penalty, entry.distance) for entry in entries)
    entries = [entry for entry in entries if (entry.penalty, entry.distance) <= least]
    yield None, entries
    for figure in criteria(goal):
        entries = _tied_with_best(entries, figure)
        yield figure, entries


def _tied_with_best(entries: Sequence[Entry], figure: Figure) -> Sequence[Entry]:
    known = [(entry, figure.of(entry.measurement)) for entry in entries]
    values = [value for _, value in known if value is not None]
    if not values:
        return entries
    top = max(values) if figure.higher else min(values)
    return [entry for entry, value in known if value is not None and figure.tied(value, top)]


def _fell_behind(entry: Entry, chosen: Entry, figure: Figure | None, ties: Sequence[str]) -> str:
    if figure is None:
        if entry.penalty > chosen.penalty:
            return "breaks the constraints further than the chosen"
        return (
            f"farther from the best of accuracy, latency and memory together: "
            f"{entry.distance:.3f} > {chosen.distance:.3f} (0 to {len(AXES) ** 0.5:.2f})"
        )
    worse, better = figure.of(entry.measurement), figure.of(chosen.measurement)
    if worse is None or better is None:
        return f"{figure.label} is not known"
    compared = figure.compare(worse, better)
    if not ties:
        return f"{compared} of the chosen"
    return f"{' and '.join(ties)}, but {figure.loss}: {compared}"


def dominates(a: Measurement, b: Measurement, axes: Sequence[Figure] = AXES) -> bool:
    """Return whether *a* is nowhere worse than *b* and somewhere better."""
    somewhere = False
    for figure in axes:
        left, right = figure.of(a), figure.of(b)
        if left is None or right is None:
            continue
        if figure.better(right, left):
            return False
        somewhere |= figure.better(left, right)
    return somewhere


def frontier(entries: Sequence[Entry]) -> list[Entry]:
    """Return those that no other dominates in accuracy, latency and memory."""
    return [
        entry
        for entry in entries
        if not any(dominates(other.measurement, entry.measurement) for other in entries)
    ]


def distances(entries: Sequence[Entry]) -> list[float]:
    """Return how far each entry lies from the ideal point, in the order of *entries*.

    Each axis is scaled so that the frontier spans 0 (its best) to 1 (its worst); the ideal
    point is best on all. The least distance is the frontier's knee.

    Source:
        Zeleny (1973), compromise programming, with the Euclidean norm.
    """
    edge = frontier(entries)
    total = [0.0] * len(entries)
    for figure in AXES:
        values = [figure.of(entry.measurement) for entry in entries]
        if any(value is None for value in values):
            continue
        known = [value for value in values if value is not None]
        span = [value for entry, value in zip(entries, known, strict=True) if entry in edge]
        low, high = min(span), max(span)
        top = high if figure.higher else low
        for index, value in enumerate(known):
            total[index] += ((value - top) / ((high - low) or 1.0)) ** 2
    return [float(value**0.5) for value in total]
