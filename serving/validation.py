"""Opens everything that a policy names, and says what was found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from scanflow_serve.converters import make
from scanflow_serve.converters.sources import ingest
from scanflow_serve.policies.errors import PolicyError, ScanflowError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.policies.nodes import Place, Report, parse
from scanflow_serve.policies.schema import Model
from scanflow_serve.runtime import validation
from scanflow_serve.runtime.tensors import TensorSpec
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
    for name, model in policy.models.items():
        with faults.at("models", name, "source"):
            models.append(_model(name, model, policy_file))
    for key, data in (("calibration", policy.calibration), ("validation", policy.validation)):
        if data is not None:
            with faults.at(key, "data"):
                validation.load_rows(data, policy_file)
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
        self._keys: tuple[str, ...] = ()

    def at(self, *keys: str) -> _Faults:
        """Return the context in which errors are faults of the value under *keys*."""
        self._keys = keys
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ScanflowError):
            return False
        node = self._root.get(*self._keys) if self._root is not None else None
        place = node.place if node is not None else Place(1, 1)
        self.report.at(place, str(error), path=".".join(self._keys))
        return True


def _model(name: str, model: Model, policy_file: PolicyFile) -> dict[str, Any]:
    """Return what is known of a model without converting it."""
    if not make.lies_beside(model.source):
        kind = make.origin_of(name, model, policy_file).kind
        return {"name": name, "format": kind, "size_mb": None, "inputs": "", "outputs": ""}
    artifact = ingest(name, model, policy_file)
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
