"""From a policy file and a host to a plan that can be served: match, ingest, measure, select.

A run with several slots is measured in two stages: each variant alone, then the combinations
that are left. A model whose file can't be used takes only its own candidates down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scanflow_serve.policies.errors import InfeasibleError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.calibration import calibrate as calibration
from scanflow_serve.runtime.calibration.calibrate import Progress
from scanflow_serve.runtime.elsewhere import plan_for
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurements
from scanflow_serve.runtime.prepared import Prepared, load, save
from scanflow_serve.runtime.selection import select
from scanflow_serve.runtime.stages import (
    Bench,
    Calibrate,
    Ingest,
    Models,
    measure_models,
    measured,
)
from scanflow_serve.runtime.targets import match
from scanflow_serve.runtime.verification import Gate
from scanflow_serve.runtime.workflow import graph

__all__ = ["Calibrate", "Ingest", "Prepared", "load", "plan_for", "prepare", "save"]


def prepare(
    policy_file: PolicyFile,
    host: HostProfile,
    *,
    ingest: Ingest,
    gate: Gate,
    calibrate: Calibrate = calibration.calibrate,
    installed: Mapping[str, bool] | None = None,
    recalibrate: bool = False,
    progress: Progress | None = None,
    notes: Sequence[str] = (),
) -> Prepared:
    """Return the plan of *policy_file* on *host*, with all that serving it needs.

    Args:
        ingest: Makes the artifacts.
        gate: Compares a variant's outputs with its reference's.
        calibrate: Measures; keeps what it measured, so that the next start is quick.
        installed: Backend name -> whether it is there; default: asked of Python.
        recalibrate: Measure all again.
        progress: Called with (done, of, what comes next), from zero for each stage.
        notes: Sentences for the plan.

    Raises:
        TargetError: No target matches.
        WorkflowError: The target's steps don't fit together.
        InfeasibleError: No candidate is usable, or none meets the constraints.
    """
    policy = policy_file.policy
    target = match(policy, host)
    ways = graph.alternatives(policy, policy.targets[target].run)
    runs = {way.name: graph.slots(policy, way) for way in ways}
    if installed is None:
        installed = {name: registry.installed(name) for name in registry.BACKENDS}
    models = Models(policy_file, host, installed)
    for name in dict.fromkeys(n for slots in runs.values() for slot in slots for n in slot.models):
        models.add(name, ingest)
    bench = Bench(models, runs, calibrate=calibrate, recalibrate=recalibrate, progress=progress)
    listings = measured(bench, models, runs, gate)
    candidates = {c.id: c for listing in listings for c in listing.candidates}
    refused = {key: value for listing in listings for key, value in listing.refused.items()}
    known = Measurements(host.fingerprint, bench.found.measured, bench.found.refused | refused)
    notes = (*notes, *_unfinished(policy_file, known), *_unscored(candidates, known))
    try:
        plan = select(policy, host, target, list(candidates.values()), known, notes=notes)
    except InfeasibleError as error:
        raise InfeasibleError(str(error), error.verdicts, known) from None
    measure_models(bench, plan)
    known = Measurements(host.fingerprint, bench.found.measured, bench.found.refused | refused)
    return Prepared(policy_file, host, plan, models.artifacts, known, bench.kinds)


def _unfinished(policy_file: PolicyFile, known: Measurements) -> tuple[str, ...]:
    late = [key for key in known.refused if known.refused[key].code == "budget"]
    late = [key for key in late if "measurement.budget_s" in known.refused[key].reason]
    if not late:
        return ()
    budget_s = policy_file.policy.measurement.budget_s
    return (
        f"Not every candidate was measured within measurement.budget_s: {budget_s:g} "
        f"({len(late)} left out). The next start goes on with them.",
    )


def _unscored(candidates: Iterable[str], known: Measurements) -> list[str]:
    """Return why accuracies are not known although there is validation data, each once."""
    causes = (known.measured[key].unscored for key in candidates if key in known.measured)
    return [f"Accuracy could not be measured. {cause}" for cause in dict.fromkeys(causes) if cause]
