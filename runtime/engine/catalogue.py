"""What could be loaded at a client's request, and which of a model's variants is the best."""

from __future__ import annotations

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.constraints import violations
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.ranking import Entry, ranked
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow import graph


def best_of(model: str, prepared: Prepared) -> Candidate:
    """Return the model by itself, in the variant that the plan has, else in its best one.

    Raises:
        RequestError: 409, no variant of it can be served on this host; says why.
    """
    plan = prepared.plan
    planned = (v for c in (plan.chosen, *plan.standbys) for v in c.variants if v.model == model)
    variant = next(planned, None)
    return alone(variant) if variant is not None else _best_measured(model, prepared)


def named(what: str, prepared: Prepared) -> Candidate:
    """Return what *what*, a model or a variant id with or without threads, stands for.

    Raises:
        RequestError: 409, it can't be served on this host.
    """
    model = what.partition("/")[0]
    if model == what:
        return best_of(model, prepared)
    found = [
        entry
        for entry in _entries(model, prepared)
        if what in (entry.candidate.variant_id, entry.candidate.variant_id.rpartition("x")[0])
    ]
    if not found:
        raise RequestError(409, f"{what!r} must be measured on this host, got no figures of it.")
    return ranked(found, prepared.plan.goal)[0].candidate


def alone(variant: Variant) -> Candidate:
    """Return the model of *variant* by itself."""
    return Candidate(graph.model_alternative(variant.model).name, (variant,))


def _best_measured(model: str, prepared: Prepared) -> Candidate:
    entries = _entries(model, prepared)
    if not entries:
        refused = prepared.measurements.refused.items()
        why = next((r.reason for key, r in refused if f":{model}/" in key), "")
        cause = f": {why}" if why else ", as the target's run does not name it"
        raise RequestError(
            409, f"Model {model!r} must have a variant that was measured here, got none{cause}."
        )
    return ranked(entries, prepared.plan.goal)[0].candidate


def _entries(model: str, prepared: Prepared) -> list[Entry]:
    """Return the measured variants of *model*, each once; what breaks a bound comes last."""
    found: dict[Variant, Entry] = {}
    for key, measurement in prepared.measurements.measured.items():
        candidate = Candidate.from_id(key)
        if candidate.models != (model,) or key in prepared.measurements.refused:
            continue
        excess = sum(v.excess for v in violations(prepared.plan.bounds, measurement))
        (variant,) = candidate.variants
        found.setdefault(variant, Entry(alone(variant), measurement, penalty=excess))
    return list(found.values())
