"""Plans for a machine that is not this one, from what was measured there; opens no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scanflow_serve.policies.errors import InfeasibleError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Policy, Variants
from scanflow_serve.runtime.backends.registry import BACKENDS, CPU
from scanflow_serve.runtime.candidates import (
    Stored,
    alone,
    device_allowed,
    direct,
    variants_of,
)
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurements, Refusal
from scanflow_serve.runtime.plan import Plan, Verdict
from scanflow_serve.runtime.selection import select
from scanflow_serve.runtime.targets import match
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow.graph import MODEL_PREFIX, Slot, alternatives, slots


def plan_for(
    policy_file: PolicyFile,
    host: HostProfile,
    measurements: Measurements,
    *,
    notes: Sequence[str] = (),
) -> Plan:
    """Return the plan of *policy_file* on *host*, by what *measurements* tell of it.

    The candidates are those that were measured or refused there and that the policy still
    allows; its constraints and objective may have changed since.

    Raises:
        TargetError: No target matches *host*.
        InfeasibleError: Nothing was measured on that host, or nothing is feasible.
    """
    policy = policy_file.policy
    target = match(policy, host)
    runs = {a.name: slots(policy, a) for a in alternatives(policy, policy.targets[target].run)}
    if measurements.host != host.fingerprint:
        measurements = Measurements(host.fingerprint)
    ids = dict.fromkeys((*measurements.measured, *measurements.refused))
    known = [Candidate.from_id(text) for text in ids]
    candidates = [c for c in known if _belongs(policy, c, runs, measurements)]
    if not any(candidate.id in measurements.measured for candidate in candidates):
        raise _unmeasured(policy_file, host, runs)
    return select(policy, host, target, candidates, measurements, notes=notes)


def _belongs(
    policy: Policy,
    candidate: Candidate,
    runs: Mapping[str, Sequence[Slot]],
    measurements: Measurements,
) -> bool:
    """Return whether *candidate* stands for one of *runs*, by variants that the policy allows."""
    if candidate.run in runs:
        places = runs[candidate.run]
        fits = len(places) == len(candidate.variants) and all(
            variant.model in slot.models
            for variant, slot in zip(candidate.variants, places, strict=True)
        )
        return fits and all(_allowed(policy, variant) for variant in candidate.variants)
    # A variant alone stands for its combinations, where it was left out of all of them.
    several = {name for each in runs.values() if len(each) > 1 for s in each for name in s.models}
    return (
        candidate.run.removeprefix(MODEL_PREFIX) in several
        and candidate.id in measurements.refused
        and all(_allowed(policy, variant) for variant in candidate.variants)
    )


def _allowed(policy: Policy, variant: Variant) -> bool:
    wanted = policy.models[variant.model].variants or Variants()
    free = not wanted.threads or variant.device != CPU
    return (
        variant.backend in wanted.backends
        and device_allowed(wanted, variant.device)
        and (not wanted.precisions or variant.precision in wanted.precisions)
        and (free or variant.threads in (wanted.threads or ()))
    )


def _unmeasured(
    policy_file: PolicyFile, host: HostProfile, runs: Mapping[str, Sequence[Slot]]
) -> InfeasibleError:
    policy = policy_file.policy
    everywhere = dict.fromkeys(BACKENDS, True)
    options = {
        name: variants_of(name, policy, host, everywhere, _stored(policy.models[name].source))
        for each in runs.values()
        for slot in each
        for name in slot.models
    }
    several = {s.models for each in runs.values() if len(each) > 1 for s in each}
    names = {name for models in several for name in models}
    listings = (direct(runs, options), alone({name: options[name] for name in sorted(names)}))
    unmeasured = Refusal("unmeasured", "was not measured on that host")
    verdicts = [
        Verdict(candidate, None, listing.refused.get(candidate.id, unmeasured))
        for listing in listings
        for candidate in listing.candidates
    ]
    command = f"scanflow-serve calibrate {policy_file.path.name} --json > measurements.json"
    return InfeasibleError(
        f"{policy.name}: figures of host {host.fingerprint} must be given, got none for any of "
        f"{len(verdicts)} candidates. Run there: {command}, and pass the file by --measurements.",
        verdicts,
    )


def _stored(source: str) -> Stored:
    return Stored("openvino" if Path(source).suffix.lower() == ".xml" else "onnx")
