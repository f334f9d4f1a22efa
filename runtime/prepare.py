"""From a policy file and a host to a plan that can be served: match, ingest, measure, select.

A run with several slots is measured in two stages: each variant alone, then the combinations
that are left. A model whose file can't be used takes only its own candidates down.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Model
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.calibration import calibrate as calibration
from scanflow_serve.runtime.calibration.calibrate import Calibration, Progress
from scanflow_serve.runtime.candidates import (
    Listing,
    Option,
    Stored,
    alone,
    direct,
    failed,
    references_of,
    variants_of,
)
from scanflow_serve.runtime.combinations import combined
from scanflow_serve.runtime.constraints import bounds
from scanflow_serve.runtime.elsewhere import plan_for
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement, Measurements, Refusal
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.prepared import Prepared, load, save
from scanflow_serve.runtime.selection import goal_of, select
from scanflow_serve.runtime.targets import match
from scanflow_serve.runtime.tensors import OutputKind
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.verification import Gate, verified
from scanflow_serve.runtime.workflow import graph

__all__ = ["Calibrate", "Ingest", "Prepared", "load", "plan_for", "prepare", "save"]

# Share of the time budget that a later stage has, even if earlier ones spent it all.
LATER_STAGE = 0.25


class Ingest(Protocol):
    """Makes an artifact of a model's source; see `converters.sources.ingest`."""

    def __call__(self, name: str, model: Model, policy_file: PolicyFile, /) -> Artifact:
        """Return the artifact of model *name*."""
        ...


class Calibrate(Protocol):
    """Measures candidates; see `calibration.calibrate.calibrate`."""

    def __call__(
        self,
        policy_file: PolicyFile,
        host: HostProfile,
        candidates: Sequence[Candidate],
        artifacts: Mapping[str, Artifact],
        /,
        *,
        budget_s: float,
        recalibrate: bool,
        progress: Progress | None,
    ) -> Calibration:
        """Return figures or a refusal for each of *candidates*."""
        ...


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
    models = _Models(policy_file, host, installed)
    for name in dict.fromkeys(n for slots in runs.values() for slot in slots for n in slot.models):
        models.add(name, ingest)
    bench = _Bench(policy_file, host, models.artifacts, calibrate, recalibrate, progress)
    plain = {way.name for way in ways if _is_model(graph.nodes(policy, way))}
    listings = _measured(bench, models, runs, plain, gate)
    candidates = {c.id: c for listing in listings for c in listing.candidates}
    refused = {key: value for listing in listings for key, value in listing.refused.items()}
    known = Measurements(host.fingerprint, bench.found.measured, bench.found.refused | refused)
    notes = (*notes, *_unfinished(policy_file, known))
    plan = select(policy, host, target, list(candidates.values()), known, notes=notes)
    _measure_models(bench, plan, plain)
    known = Measurements(host.fingerprint, bench.found.measured, bench.found.refused | refused)
    kinds = _kinds(models, bench.found.measured, plain)
    return Prepared(policy_file, host, plan, models.artifacts, known, kinds)


@dataclass(slots=True)
class _Models:
    """The models of the target: artifacts, variants, and the references they are held to."""

    policy_file: PolicyFile
    host: HostProfile
    installed: Mapping[str, bool]
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    options: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    references: dict[str, tuple[Variant, ...]] = field(default_factory=dict)

    def add(self, name: str, ingest: Ingest) -> None:
        policy = self.policy_file.policy
        try:
            artifact = ingest(name, policy.models[name], self.policy_file)
        except ScanflowError as error:
            options = variants_of(name, policy, self.host, self.installed, Stored())
            self.options[name] = failed(options, str(error))
            self.references[name] = ()
            return
        stored = Stored(artifact.format, artifact.precision)
        options = variants_of(name, policy, self.host, self.installed, stored)
        self.artifacts[name] = artifact
        self.options[name] = options
        self.references[name] = references_of(name, options, self.installed, stored)


class _Bench:
    """Measures in stages within one budget, and keeps what was found."""

    def __init__(
        self,
        policy_file: PolicyFile,
        host: HostProfile,
        artifacts: Mapping[str, Artifact],
        calibrate: Calibrate,
        recalibrate: bool,
        progress: Progress | None,
    ) -> None:
        self.policy_file = policy_file
        self.host = host
        self.found = Calibration()
        self._artifacts = artifacts
        self._calibrate = calibrate
        self._recalibrate = recalibrate
        self._progress = progress
        self._budget_s = policy_file.policy.measurement.budget_s
        self._end = time.monotonic() + self._budget_s

    def measure(self, candidates: Sequence[Candidate], *, share: float = 1.0) -> None:
        """Measure those of *candidates* that were not yet, in *share* of the time that is left."""
        seen = {*self.found.measured, *self.found.refused}
        missing = {c.id: c for c in candidates if c.id not in seen}
        if not missing:
            return
        left_s = max(self._end - time.monotonic(), LATER_STAGE * self._budget_s)
        outcome = self._calibrate(
            self.policy_file,
            self.host,
            list(missing.values()),
            self._artifacts,
            budget_s=left_s * share,
            recalibrate=self._recalibrate,
            progress=self._progress,
        )
        self.found.measured.update(outcome.measured)
        self.found.refused.update(outcome.refused)
        self.found.outputs.update(outcome.outputs)


def _measured(
    bench: _Bench,
    models: _Models,
    runs: Mapping[str, Sequence[graph.Slot]],
    plain: set[str],
    gate: Gate,
) -> list[Listing]:
    """Measure the target's candidates, in two stages where a run has several slots."""
    policy = bench.policy_file.policy
    several = {name: slots for name, slots in runs.items() if len(slots) > 1}
    names = dict.fromkeys(n for slots in several.values() for slot in slots for n in slot.models)
    singles = alone({name: models.options[name] for name in names})
    others = {n for run, s in runs.items() if run not in plain for slot in s for n in slot.models}
    references = {name: each[0] for name, each in models.references.items() if each}
    judges = [_alone(variant) for name, variant in references.items() if name in others]
    bench.measure([*judges, *singles.open], share=0.5)
    refused = _gated(bench, models, singles, gate)
    single_runs = {name: slots for name, slots in runs.items() if len(slots) < 2}
    simple = direct(single_runs, models.options)
    judges = [
        Candidate(run, (references[name],))
        for run, slots in single_runs.items()
        for slot in slots
        for name in slot.models
        if name in references
    ]
    bench.measure([*judges, *simple.open])
    listings = [Listing(simple.candidates, _gated(bench, models, simple, gate))]
    known = Measurements(bench.host.fingerprint, bench.found.measured, refused)
    goal, limits = goal_of(policy), bounds(policy.objective)
    for run, slots in several.items():
        listing = combined(run, slots, singles, known, goal, limits)
        bench.measure(listing.open)
        listings.append(listing)
    return listings


def _gated(bench: _Bench, models: _Models, listing: Listing, gate: Gate) -> dict[str, Refusal]:
    """Return the refusals of *listing*, and those of verification and measurement."""
    policy = bench.policy_file.policy
    unlike = verified(policy, listing.open, models.references, bench.found, gate)
    failures = {c.id: bench.found.refused.get(c.id) for c in listing.open}
    found = {key: refusal for key, refusal in failures.items() if refusal is not None}
    return {**listing.refused, **found, **unlike}


def _measure_models(bench: _Bench, plan: Plan, plain: set[str]) -> None:
    """See that every variant that will be loaded has figures as a model by itself too."""
    measured = bench.found.measured
    wanted = []
    for candidate in (plan.chosen, *plan.standbys):
        for variant in candidate.variants:
            single = _alone(variant)
            if candidate.run in plain:
                measured.setdefault(single.id, measured[candidate.id])
            else:
                wanted.append(single)
    bench.measure(wanted)


def _kinds(
    models: _Models, measured: Mapping[str, Measurement], plain: set[str]
) -> dict[str, OutputKind]:
    """Return what each model's output holds, by the policy or by its reference's measurement."""
    kinds: dict[str, OutputKind] = {}
    for name, references in models.references.items():
        declared = models.policy_file.policy.models[name].kind
        ids = [_alone(variant).id for variant in references]
        ids += [Candidate(run, (variant,)).id for variant in references for run in sorted(plain)]
        found = next((measured[key].kind for key in ids if key in measured), None)
        if (kind := declared or found) is not None:
            kinds[name] = kind
    return kinds


def _alone(variant: Variant) -> Candidate:
    return Candidate(graph.model_alternative(variant.model).name, (variant,))


def _is_model(nodes: Sequence[graph.Node]) -> bool:
    """Return whether the run is one slot and nothing else: its figures are the model's."""
    return len(nodes) == 1 and isinstance(nodes[0], graph.Slot)


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
