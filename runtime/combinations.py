"""The candidates of a run with several slots: few enough to measure each end to end.

A product of all variants would take hours. So each variant is measured alone, those that are no
better than another in accuracy, latency and memory are left out, and the rest is thinned until
the product is small: the best by the objective and the fastest of a slot always stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from scanflow_serve.runtime.candidates import Listing
from scanflow_serve.runtime.constraints import violations
from scanflow_serve.runtime.figures import AXES
from scanflow_serve.runtime.measurements import Latency, Measurement, Measurements, Refusal
from scanflow_serve.runtime.ranking import Entry, ranked
from scanflow_serve.runtime.variants import Candidate
from scanflow_serve.runtime.workflow.graph import Slot

MAX_COMBINATIONS = 32  # of one run; each takes one or two seconds to measure


def combined(
    run: str,
    slots: Sequence[Slot],
    singles: Listing,
    measurements: Measurements,
    goal: str,
    limits: Mapping[str, float],
) -> Listing:
    """Return the combinations of *run* to measure, and the variants that are in none of them.

    Args:
        slots: Of the run, two or more.
        singles: The candidates ``model:NAME`` of the models in the slots.
        measurements: Of *singles*.
        goal: See `ranking.criteria`.
        limits: See `constraints.bounds`; what breaks one alone comes last.
    """
    refused = {**singles.refused, **measurements.refused}
    usable = [
        Entry(c, measurements.measured[c.id])
        for c in singles.candidates
        if c.id not in refused and c.id in measurements.measured
    ]
    kept: list[list[Entry]] = []
    for slot in slots:
        fits = [entry for entry in usable if entry.candidate.variants[0].model in slot.models]
        entries = [_penalised(entry, limits) for entry in fits]
        best, beaten = _pruned(ranked(entries, goal))
        kept.append(best)
        refused = beaten | refused
    refused |= _thinned(kept)
    if not all(kept):
        empty = next(slot.path for slot, entries in zip(slots, kept, strict=True) if not entries)
        idle = Refusal("unmeasured", f"no variant can be used at {empty}")
        refused = dict.fromkeys((e.candidate.id for e in usable), idle) | refused
        kept = [[] for _ in slots]
    estimates = [_estimate(run, parts) for parts in product(*kept)]
    estimates = [replace(e, penalty=_excess(limits, e.measurement)) for e in estimates]
    used = {entry.candidate.id for entries in kept for entry in entries}
    models = {name for slot in slots for name in slot.models}
    out = [c for c in singles.candidates if c.id not in used and c.variants[0].model in models]
    unmeasured = Refusal("unmeasured", "was not measured")
    return Listing(
        tuple(entry.candidate for entry in ranked(estimates, goal)) + tuple(out),
        {c.id: refused.get(c.id, unmeasured) for c in out},
    )


def _penalised(entry: Entry, limits: Mapping[str, float]) -> Entry:
    """Return *entry* with a penalty for bounds that a combination with it must break too."""
    growing = {key: limit for key, limit in limits.items() if key.startswith("max_")}
    return replace(entry, penalty=_excess(growing, entry.measurement))


def _excess(limits: Mapping[str, float], measurement: Measurement) -> float:
    return sum(violation.excess for violation in violations(limits, measurement))


def _pruned(entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, Refusal]]:
    """Return those that no earlier one equals or beats on every axis, and why the others fell."""
    kept: list[Entry] = []
    beaten: dict[str, Refusal] = {}
    for entry in entries:
        better = next((k for k in kept if _covers(k.measurement, entry.measurement)), None)
        if better is None:
            kept.append(entry)
        else:
            figures = _axes(entry, better)
            reason = f"alone no better than {better.candidate.variant_id}, within noise: {figures}"
            beaten[entry.candidate.id] = Refusal("dominated", reason)
    return kept, beaten


def _covers(a: Measurement, b: Measurement) -> bool:
    """Return whether *b* is on no axis better than *a* by more than noise."""
    for figure in AXES:
        left, right = figure.of(a), figure.of(b)
        if left is None or right is None:
            continue
        if figure.better(right, left) and not figure.tied(right, left):
            return False
    return True


def _axes(entry: Entry, other: Entry) -> str:
    parts = []
    for figure in AXES:
        mine, theirs = figure.of(entry.measurement), figure.of(other.measurement)
        if mine is not None and theirs is not None:
            parts.append(f"{figure.label} {figure.show(mine)} against {figure.show(theirs)}")
    return ", ".join(parts)


def _thinned(kept: list[list[Entry]]) -> dict[str, Refusal]:
    """Shorten the lists in *kept*, each best first, until their product is small enough."""
    dropped: dict[str, Refusal] = {}
    while math.prod(map(len, kept)) > MAX_COMBINATIONS:
        longest = max(kept, key=len)
        fastest = min(longest, key=lambda entry: entry.measurement.latency_p95_ms)
        spare = [e for e in longest[1:] if e is not fastest] or longest[1:]
        longest.remove(spare[-1])
        reason = f"others come first among the {MAX_COMBINATIONS} combinations that are measured"
        dropped[spare[-1].candidate.id] = Refusal("budget", reason)
    return dropped


def _estimate(run: str, parts: Sequence[Entry]) -> Entry:
    """Return a combination with the figures to expect: sums, and the mean accuracy."""
    each = [part.measurement for part in parts]
    accuracies = [m.accuracy for m in each if m.accuracy is not None]
    p95_ms = sum(m.latency_p95_ms for m in each)
    energies = [m.energy_mj for m in each if m.energy_mj is not None]
    figures = Measurement(
        load_s=sum(m.load_s for m in each),
        memory_mb=sum(m.memory_mb for m in each),
        latency={1: Latency(p50_ms=p95_ms, p95_ms=p95_ms, samples=0)},
        throughput_rps=1 / sum(1 / max(m.throughput_rps, 1e-9) for m in each),
        best_batch=1,
        size_mb=sum(m.size_mb for m in each),
        energy_mj=sum(energies) if len(energies) == len(each) else None,
        accuracy=sum(accuracies) / len(each) if len(accuracies) == len(each) else None,
    )
    return Entry(Candidate(run, tuple(v for p in parts for v in p.candidate.variants)), figures)
