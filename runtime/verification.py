"""Holds every variant to the one that runs its model as it stands, before it may be chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from scanflow_serve.policies.schema import Policy
from scanflow_serve.runtime.calibration.calibrate import Calibration
from scanflow_serve.runtime.figures import FIGURES
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.tensors import Tensors
from scanflow_serve.runtime.variants import Candidate, Variant

# (reference's outputs, variant's outputs, precision=) -> why the variant may not be served.
Gate: TypeAlias = Callable[..., Refusal | None]


def verified(
    policy: Policy,
    candidates: Sequence[Candidate],
    references: Mapping[str, Sequence[Variant]],
    calibration: Calibration,
    gate: Gate,
) -> dict[str, Refusal]:
    """Return why some of *candidates*, of one variant each, may not be served, by id.

    Args:
        references: By model; the first that was measured in a candidate's run is what the
            candidate is held to.
        gate: See `converters.verification.gate`.
    """
    refused: dict[str, Refusal] = {}
    for candidate in candidates:
        if candidate.id not in calibration.measured or len(candidate.variants) != 1:
            continue
        model = candidate.variants[0].model
        options = [Candidate(candidate.run, (variant,)) for variant in references[model]]
        reference = next((c for c in options if c.id in calibration.measured), None)
        if candidate != reference:
            refusal = (
                _nothing_to_compare(options, calibration)
                if reference is None
                else _difference(policy, reference, candidate, calibration, gate)
            )
            if refusal is not None:
                refused[candidate.id] = refusal
    return refused


def _nothing_to_compare(options: Sequence[Candidate], calibration: Calibration) -> Refusal:
    causes = [calibration.refused[c.id].reason for c in options if c.id in calibration.refused]
    text = "the model as it stands, to compare with, could not be measured"
    return Refusal("verification", f"{text}: {causes[0]}" if causes else text)


def _difference(
    policy: Policy,
    reference: Candidate,
    candidate: Candidate,
    calibration: Calibration,
    gate: Gate,
) -> Refusal | None:
    variant = candidate.variants[0]
    outputs: Tensors = calibration.outputs[candidate.id]
    refusal = gate(calibration.outputs[reference.id], outputs, precision=variant.precision)
    if refusal is not None:
        return refusal
    truth = calibration.measured[reference.id].accuracy
    found = calibration.measured[candidate.id].accuracy
    allowed = policy.models[variant.model].max_accuracy_drop
    # A validation metric is a ratio of counts: the margin only forgives binary fractions.
    if truth is None or found is None or truth - found <= allowed + 1e-9:
        return None
    compared = FIGURES["accuracy"].compare(found, truth)
    return Refusal(
        "verification",
        f"{compared} of {reference.variant_id}: loses {truth - found:.3g}, max_accuracy_drop "
        f"allows {allowed:g}",
    )
