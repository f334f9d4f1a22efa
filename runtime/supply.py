"""All files of a model that a host may load, and which of them a variant loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.policies.schema import Model
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends.registry import BACKENDS
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.variants import Variant


@dataclass(frozen=True, slots=True)
class Supply:
    """What there is of one model.

    Attributes:
        artifacts: First the source's own form, which others are held to; then what was converted.
        refused: (backend, precision) -> why there is no file for it.
    """

    artifacts: tuple[Artifact, ...]
    refused: Mapping[tuple[str, str], Refusal] = field(default_factory=dict)


def class_names(model: Model, artifacts: Sequence[Artifact]) -> tuple[str, ...] | None:
    """Return the names of a model's classes: the policy's, else those that its source knows."""
    if model.labels is not None:
        return tuple(model.labels)
    return next((a.manifest.labels for a in artifacts if a.manifest.labels is not None), None)


def artifact_for(variant: Variant, artifacts: Sequence[Artifact]) -> Artifact:
    """Return the file that *variant* loads, of those of its model, the source's own first.

    One that is stored in the variant's precision, and among several the one that was made for
    its backend; else the first, which the backend casts as it loads it.

    Raises:
        ArtifactError: None is of a format that the backend loads.
    """
    formats = BACKENDS[variant.backend].formats
    able = [artifact for artifact in artifacts if artifact.format in formats]
    exact = [artifact for artifact in able if artifact.precision == variant.precision]
    own = [artifact for artifact in exact if variant.backend in artifact.manifest.effective]
    anyones = [artifact for artifact in exact if not artifact.manifest.effective]
    for artifact in (*own, *anyones, *able):
        return artifact
    raise ArtifactError(
        f"{variant.id}: its model must be there as {' or '.join(sorted(formats))}, got "
        f"{sorted({artifact.format for artifact in artifacts})}. Plan again: scanflow-serve run."
    )
