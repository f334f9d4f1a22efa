"""Why this one: a plan in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from scanflow_serve.runtime.figures import FIGURES, bound_text, constraint_figure
from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.variants import Candidate, Variant


def sentence(plan: Plan) -> str:
    """Return what was chosen, of how many, by what, and within which bounds.

    Such as ``digits-cnn on openvino in bf16 with 1 thread: most accurate (0.990 on 300 rows) of
    18 measured candidates within latency p95 <= 20 ms (measured 0.11 ms).``
    """
    measured = [v for v in plan.verdicts if v.measurement is not None]
    figures = next(v.measurement for v in measured if v.candidate == plan.chosen)
    of = (
        f"of {len(measured)} measured candidates"
        if len(measured) > 1
        else "and the only one measured"
    )
    why = f"{_superlative(plan, figures)} {of}"
    if not plan.feasible:
        why = f"nearest to the constraints {of}, none of which meets"
    limits = _bounds(plan.bounds, figures)
    joined = f" {'within ' if plan.feasible else ''}{limits}" if limits else ""
    return f"{_what(plan.chosen)}: {why}{joined}."


def _what(candidate: Candidate) -> str:
    if not candidate.variants:
        return f"workflow {candidate.run}"
    return " + ".join(dict.fromkeys(map(_variant, candidate.variants)))


def _variant(variant: Variant) -> str:
    threads = f"{variant.threads} thread{'s' if variant.threads > 1 else ''}"
    device = "" if variant.device == "CPU" else f" on {variant.device}"
    return f"{variant.model} on {variant.backend}{device} in {variant.precision} with {threads}"


def _superlative(plan: Plan, measurement: Measurement | None) -> str:
    figure = FIGURES.get(plan.goal)
    if figure is None or measurement is None:
        return "best balance of accuracy, latency and memory"
    value = figure.of(measurement)
    if value is None:
        return figure.superlative
    rows = f" on {measurement.accuracy_rows} rows" if measurement.accuracy_rows else ""
    if figure.key != "accuracy":
        return f"{figure.superlative} ({figure.show(value)})"
    source = " declared" if measurement.declared else rows
    return f"{figure.superlative} ({figure.show(value)}{source})"


def _bounds(limits: Mapping[str, float], measurement: Measurement | None) -> str:
    parts = []
    for key, limit in limits.items():
        figure = constraint_figure(key)
        value = figure.of(measurement) if measurement else None
        shown = f" (measured {figure.show(value)})" if value is not None else ""
        parts.append(f"{bound_text(key, limit)}{shown}")
    return " and ".join(parts)
