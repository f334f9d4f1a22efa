"""Opens everything that a policy names, and says what was found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scanflow_serve.converters import make
from scanflow_serve.converters.origins.origin import Origin
from scanflow_serve.converters.sources import ingest
from scanflow_serve.policies.errors import PolicyError, ScanflowError, WorkflowError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.policies.nodes import Place, Report, parse
from scanflow_serve.runtime import validation
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.tensors import TensorSpec
from scanflow_serve.runtime.workflow import kinds
from scanflow_serve.runtime.workflow.graph import alternatives
from scanflow_serve.serving.image_inputs import require_fit
from scanflow_serve.serving.inactive import inactive_sections


def summary(path: Path) -> dict[str, Any]:
    """Return what the policy at *path* holds, as ``validate --json`` writes it.

    Raises:
        PolicyError: It has faults, or a model or data file that it names has.
    """
    policy_file = load_policy(path)
    faults = _Faults(policy_file)
    policy = policy_file.policy
    models = []
    signatures = {}
    for name, model in policy.models.items():
        with faults.at("models", name, "source"):
            if not make.lies_beside(model.source):
                models.append(_unconverted(name, make.origin_of(name, model, policy_file)))
                continue
            artifact = ingest(name, model, policy_file)
            models.append(_model(artifact))
            signatures[name] = artifact.signature
            outputs = artifact.signature.outputs
            known = model.output in (None, *(spec.name for spec in outputs))
            with faults.at("models", name, "labels" if known else "output"):
                kinds.model_output(name, model, outputs)
    for key, data in (("calibration", policy.calibration), ("validation", policy.validation)):
        if data is not None:
            with faults.at(key, "data"):
                validation.load_rows(data, policy_file)
    with faults.at("serve", "image"):
        for run in (run for target in policy.targets for run in alternatives(policy, target.run)):
            # Of batch steps, which `run` refuses where they would run.
            with suppress(WorkflowError):
                require_fit(policy, run.name, signatures)
    if faults.report.faults:
        raise PolicyError(faults.report.faults)
    return {
        "policy": policy.name,
        "models": models,
        "workflows": list(policy.workflows),
        "notes": list(inactive_sections(policy)),
    }


class _Faults:
    """Collects what goes wrong, each with the place that named the file."""

    def __init__(self, policy_file: PolicyFile) -> None:
        self.report = Report(str(policy_file.path))
        self._root = parse(policy_file.text, os.environ, self.report)

    @contextmanager
    def at(self, *keys: str) -> Iterator[None]:
        """Take errors of the block for faults of the value under *keys*."""
        try:
            yield
        except ScanflowError as error:
            node = self._root.get(*keys) if self._root is not None else None
            place = node.place if node is not None else Place(1, 1)
            path = ".".join(keys)
            self.report.at(place, str(error).removeprefix(f"{path}: "), path=path)


def _unconverted(name: str, origin: Origin) -> dict[str, Any]:
    """Return what is known of a model before it is converted."""
    return {"name": name, "format": origin.kind, "size_mb": None, "inputs": "", "outputs": ""}


def _model(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.model,
        "format": artifact.format,
        "size_mb": round(artifact.size_bytes / 2**20, 3),
        "inputs": _text(artifact.signature.inputs),
        "outputs": _text(artifact.signature.outputs),
    }


def _text(specs: tuple[TensorSpec, ...]) -> str:
    """Return specs as people read them, such as ``pixels float32(n, 64)``."""
    shapes = (", ".join("n" if n is None else str(n) for n in spec.shape) for spec in specs)
    return ", ".join(
        f"{spec.name} {spec.dtype}({shape})" for spec, shape in zip(specs, shapes, strict=True)
    )
