"""Whole worlds for planning: policies, hosts and measurements, made up but complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Model, Policy
from scanflow_serve.runtime.artifacts import Artifact, Manifest
from scanflow_serve.runtime.calibration.calibrate import Calibration
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.measurements import Latency, Measurement, Refusal
from scanflow_serve.runtime.supply import Supply
from scanflow_serve.runtime.tensors import OutputKind, Signature, Tensors, TensorSpec
from scanflow_serve.runtime.variants import Candidate, Variant


def policy(**sections: Any) -> Policy:
    """Return a policy of two models in one slot, with *sections* in place of the defaults."""
    document: dict[str, Any] = {
        "apiVersion": "scanflow/v1",
        "name": "digits",
        "models": {"mlp": {"source": "mlp.onnx"}, "cnn": {"source": "cnn.onnx"}},
        "validation": {"data": "rows.npz", "input": "x", "target": "y"},
        "workflows": {"classify": {"steps": [{"model": ["mlp", "cnn"]}]}},
        "targets": [{"run": "classify"}],
        "objective": {"maximize": "accuracy", "subject_to": {"max_latency_p95_ms": 20.0}},
    }
    return Policy.model_validate(document | sections)


def host(cores: float = 2, **fields: Any) -> HostProfile:
    """Return a host without any ISA feature, unless `features` are given."""
    features = fields.pop("features", ())
    cpu = Cpu(cores=float(cores), features=tuple(features))
    return HostProfile(
        **{"kind": "desktop", "arch": "x86_64", "memory_mb": 8192.0, **fields}, cpu=cpu
    )


def measurement(
    p95_ms: float = 1.0, accuracy: float | None = 0.9, memory_mb: float = 10.0, **fields: Any
) -> Measurement:
    """Return figures that only differ where a test says so."""
    defaults: dict[str, Any] = {
        "load_s": 0.1,
        "throughput_rps": 1000.0,
        "best_batch": 8,
        "size_mb": 1.0,
        "accuracy_rows": 0 if accuracy is None else 300,
        "kind": "logits",
    }
    latency = {1: Latency(p50_ms=p95_ms * 0.9, p95_ms=p95_ms, samples=100)}
    figures = {"latency": latency, "accuracy": accuracy, "memory_mb": memory_mb}
    return Measurement(**(defaults | figures | fields))


def candidate(text: str) -> Candidate:
    """Return the candidate of ``MODEL/BACKEND-PRECISIONxN`` in the workflow ``classify``."""
    return Candidate("classify", (Variant.from_id(text),))


def policy_file(document: Policy, folder: Path) -> PolicyFile:
    """Return *document* as if it had been read from a file in *folder*."""
    return PolicyFile(document, folder / "policy.yaml", folder, "", "d1" * 32)


@dataclass
class FakeModels:
    """Ingests models that exist only here; those in *broken* raise what it maps them to."""

    folder: Path
    broken: Mapping[str, Exception] = field(default_factory=dict)
    precisions: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[tuple[str, str], Refusal] = field(default_factory=dict)

    def __call__(self, name: str, model: Model, file: PolicyFile, /) -> Supply:
        if name in self.broken:
            raise self.broken[name]
        path = self.folder / f"{name}.onnx"
        path.write_text(name)
        spec = TensorSpec("x", "float32", (None, 4))
        artifact = Artifact(
            id=name,
            model=name,
            format="onnx",
            precision=self.precisions.get(name, "fp32"),
            path=path,
            size_bytes=len(name),
            signature=Signature((spec,), (TensorSpec("logits", "float32", (None, 2)),)),
            manifest=Manifest(source=model.source, source_digest=name),
        )
        return Supply((artifact,), self.refused)


@dataclass
class FakeCalibrate:
    """A machine whose figures of every variant are known before.

    Attributes:
        figures: ``MODEL/BACKEND-PRECISION`` -> figures; what is missing fails.
        wrong: Variants that answer something else than their model does.
        calls: The candidate ids of each call, and its budget.
        kinds: Those that each call was given.
    """

    figures: Mapping[str, Measurement]
    wrong: frozenset[str] = frozenset()
    calls: list[tuple[list[str], float]] = field(default_factory=list)
    kinds: list[Mapping[str, OutputKind]] = field(default_factory=list)

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
        progress: object,
        kinds: Mapping[str, OutputKind],
    ) -> Calibration:
        self.calls.append(([each.id for each in candidates], budget_s))
        self.kinds.append(dict(kinds))
        outcome = Calibration()
        for each in candidates:
            names = [variant.id.rpartition("x")[0] for variant in each.variants]
            missing = [name for name in names if name not in self.figures]
            if missing:
                outcome.refused[each.id] = Refusal("failed", f"{missing[0]} crashed")
                continue
            outcome.measured[each.id] = self._together([self.figures[name] for name in names])
            outcome.outputs[each.id] = self._outputs(names)
        return outcome

    def _together(self, parts: Sequence[Measurement]) -> Measurement:
        if len(parts) == 1:
            return parts[0]
        return measurement(
            p95_ms=sum(part.latency_p95_ms for part in parts) or 0.01,
            accuracy=max((part.accuracy or 0.0 for part in parts), default=0.5),
            memory_mb=sum(part.memory_mb for part in parts),
        )

    def _outputs(self, names: Sequence[str]) -> Tensors:
        return {"logits": np.full((4, 2), float(any(name in self.wrong for name in names)))}
