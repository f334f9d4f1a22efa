"""Measures the candidates of a target on this host, in stages within one time budget.

A run with several slots is measured in two stages: each variant alone, then the combinations
that are left. What a model's output holds decides whether a slot converts it, so a slot whose
models turn out to differ is measured again, as it will be served.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Model, Policy
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.calibration.calibrate import Calibration, Progress
from scanflow_serve.runtime.candidates import (
    Listing,
    Option,
    Stored,
    alone,
    conversions,
    direct,
    failed,
    references_of,
    variants_of,
)
from scanflow_serve.runtime.combinations import combined
from scanflow_serve.runtime.constraints import bounds
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurements, Refusal
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.selection import goal_of
from scanflow_serve.runtime.supply import Supply
from scanflow_serve.runtime.tensors import OutputKind
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.verification import Gate, verified
from scanflow_serve.runtime.workflow import graph

# Share of the time budget that a later stage has, even if earlier ones spent it all.
LATER_STAGE = 0.25

Runs = Mapping[str, Sequence[graph.Slot]]  # by run name


class Ingest(Protocol):
    """Makes artifacts of a model's source; see `converters.make.Maker`."""

    def __call__(self, name: str, model: Model, policy_file: PolicyFile, /) -> Supply:
        """Return the artifacts of model *name*, and why others can't be had."""
        ...


class Calibrate(Protocol):
    """Measures candidates; see `calibration.calibrate.calibrate`."""

    def __call__(
        self,
        policy_file: PolicyFile,
        host: HostProfile,
        candidates: Sequence[Candidate],
        artifacts: Mapping[str, Sequence[Artifact]],
        /,
        *,
        budget_s: float,
        recalibrate: bool,
        progress: Progress | None,
        kinds: Mapping[str, OutputKind],
    ) -> Calibration:
        """Return figures or a refusal for each of *candidates*."""
        ...


@dataclass(slots=True)
class Models:
    """The models of the target: artifacts, variants, and the references they are held to."""

    policy_file: PolicyFile
    host: HostProfile
    installed: Mapping[str, bool]
    artifacts: dict[str, tuple[Artifact, ...]] = field(default_factory=dict)
    options: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    references: dict[str, tuple[Variant, ...]] = field(default_factory=dict)

    def add(self, name: str, ingest: Ingest) -> None:
        """Ingest the model *name* and list its variants, refused if its file can't be used."""
        policy = self.policy_file.policy
        try:
            supply = ingest(name, policy.models[name], self.policy_file)
        except ScanflowError as error:
            options = variants_of(name, policy, self.host, self.installed, Stored())
            self.options[name] = failed(options, str(error))
            self.references[name] = ()
            return
        source = supply.artifacts[0]
        stored = Stored(source.format, source.precision)
        wanted = conversions(name, policy, self.host, self.installed, stored)
        stored = replace(stored, converted={each: supply.refused.get(each) for each in wanted})
        options = variants_of(name, policy, self.host, self.installed, stored)
        self.artifacts[name] = supply.artifacts
        self.options[name] = options
        self.references[name] = references_of(name, options, self.installed, stored)


class Bench:
    """Measures in stages within one budget, and keeps what was found.

    Attributes:
        found: By candidate id, of all stages.
        kinds: What each model's output holds, as far as it is known by now.
        plain: Runs that are one slot and nothing else, whose figures are the model's too.
    """

    def __init__(
        self,
        models: Models,
        runs: Runs,
        *,
        calibrate: Calibrate,
        recalibrate: bool,
        progress: Progress | None,
    ) -> None:
        policy = models.policy_file.policy
        self.found = Calibration()
        self.kinds: dict[str, OutputKind] = {}
        self.plain = {run for run in runs if _is_model(policy, run)}
        self._models = models
        self._calibrate = calibrate
        self._recalibrate = recalibrate
        self._progress = progress
        self._budget_s = policy.measurement.budget_s
        self._end = time.monotonic() + self._budget_s

    def measure(self, candidates: Sequence[Candidate], *, share: float = 1.0) -> None:
        """Measure those of *candidates* that were not yet, in *share* of the time that is left."""
        seen = {*self.found.measured, *self.found.refused}
        missing = {c.id: c for c in candidates if c.id not in seen}
        # In a plain run each model is to show what it holds by itself.
        plain = [c for c in missing.values() if c.run in self.plain]
        self._calibrated(plain, {}, share)
        self._calibrated([c for c in missing.values() if c not in plain], self.kinds, share)

    def _calibrated(
        self, candidates: Sequence[Candidate], kinds: Mapping[str, OutputKind], share: float
    ) -> None:
        if not candidates:
            return
        left_s = max(self._end - time.monotonic(), LATER_STAGE * self._budget_s)
        outcome = self._calibrate(
            self._models.policy_file,
            self._models.host,
            candidates,
            self._models.artifacts,
            budget_s=left_s * share,
            recalibrate=self._recalibrate,
            progress=self._progress,
            kinds=kinds,
        )
        self.found.measured.update(outcome.measured)
        self.found.refused.update(outcome.refused)
        self.found.outputs.update(outcome.outputs)
        self.kinds = self._known_kinds()

    def measure_as_served(self, runs: Runs, candidates: Sequence[Candidate]) -> None:
        """Measure again those of *candidates* whose slot turned out to convert its outputs."""
        mixed = {run for run in self.plain & runs.keys() if self._is_mixed(runs[run])}
        self.plain -= mixed
        again = [candidate for candidate in candidates if candidate.run in mixed]
        for candidate in again:
            self.found.measured.pop(candidate.id, None)
            self.found.refused.pop(candidate.id, None)
        self.measure(again)

    def _is_mixed(self, slots: Sequence[graph.Slot]) -> bool:
        kinds = ({self.kinds.get(name) for name in slot.models} - {None} for slot in slots)
        return any(len(each) > 1 for each in kinds)

    def _known_kinds(self) -> dict[str, OutputKind]:
        """Return the kinds by the policy, by earlier stages, or by a reference's measurement."""
        kinds: dict[str, OutputKind] = {}
        for name, references in self._models.references.items():
            declared = self._models.policy_file.policy.models[name].kind
            ids = [_alone(variant).id for variant in references]
            ids += [Candidate(r, (v,)).id for v in references for r in sorted(self.plain)]
            measured = (self.found.measured[key].kind for key in ids if key in self.found.measured)
            if (kind := declared or self.kinds.get(name) or next(measured, None)) is not None:
                kinds[name] = kind
        return kinds


def measured(bench: Bench, models: Models, runs: Runs, gate: Gate) -> list[Listing]:
    """Measure the target's candidates, and return them with those that may not be served."""
    policy = models.policy_file.policy
    several = {name: slots for name, slots in runs.items() if len(slots) > 1}
    names = dict.fromkeys(n for slots in several.values() for slot in slots for n in slot.models)
    singles = alone({name: models.options[name] for name in names})
    longer = [slots for run, slots in runs.items() if run not in bench.plain]
    others = {name for slots in longer for slot in slots for name in slot.models}
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
    bench.measure_as_served(single_runs, [*judges, *simple.open])
    listings = [Listing(simple.candidates, _gated(bench, models, simple, gate))]
    known = Measurements(models.host.fingerprint, bench.found.measured, refused)
    goal, limits = goal_of(policy), bounds(policy.objective)
    for run, slots in several.items():
        listing = combined(run, slots, singles, known, goal, limits)
        bench.measure(listing.open)
        listings.append(listing)
    return listings


def measure_models(bench: Bench, plan: Plan) -> None:
    """See that every variant that will be loaded has figures as a model by itself too."""
    found = bench.found.measured
    wanted = []
    for candidate in (plan.chosen, *plan.standbys):
        for variant in candidate.variants:
            single = _alone(variant)
            if candidate.run in bench.plain:
                found.setdefault(single.id, found[candidate.id])
            else:
                wanted.append(single)
    bench.measure(wanted)


def _gated(bench: Bench, models: Models, listing: Listing, gate: Gate) -> dict[str, Refusal]:
    """Return the refusals of *listing*, and those of verification and measurement."""
    policy = models.policy_file.policy
    unlike = verified(policy, listing.open, models.references, bench.found, gate)
    failures = {c.id: bench.found.refused.get(c.id) for c in listing.open}
    found = {key: refusal for key, refusal in failures.items() if refusal is not None}
    return {**listing.refused, **found, **unlike}


def _alone(variant: Variant) -> Candidate:
    return Candidate(graph.model_alternative(variant.model).name, (variant,))


def _is_model(policy: Policy, run: str) -> bool:
    """Return whether *run* is one slot and nothing else, and as far as declared of one kind."""
    nodes = graph.nodes(policy, graph.alternative(policy, run))
    if len(nodes) != 1 or not isinstance(nodes[0], graph.Slot):
        return False
    return len({policy.models[name].kind for name in nodes[0].models}) == 1
