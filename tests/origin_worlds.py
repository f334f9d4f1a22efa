from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanflow_serve.converters.origins.kinds import find_origin
from scanflow_serve.converters.origins.origin import Exported, Origin
from scanflow_serve.converters.sources import file_artifact
from scanflow_serve.policies import schema
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.tensors import Tensors

Find = Callable[..., Origin]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    path.mkdir()
    return path


@pytest.fixture
def find(folder: Path) -> Find:
    """Return the origin of model ``net`` of a policy in *folder*, for the model's keys."""

    def found(
        source: str, *, sample: Tensors | None = None, track: str | None = None, **keys: Any
    ) -> Origin:
        document: dict[str, Any] = {
            "apiVersion": "scanflow/v1",
            "name": "p",
            "models": {"net": {"source": source, **keys}},
            "workflows": {"w": {"steps": [{"model": "net"}]}},
            "targets": [{"run": "w"}],
            "objective": {"minimize": "latency_p95_ms"},
            **({"track": {"uri": track}} if track else {}),
        }
        policy = schema.Policy.model_validate(document)
        policy_file = PolicyFile(policy, folder / "p.yaml", folder.resolve(), "", "")
        return find_origin("net", policy.models["net"], policy_file, sample=sample)

    return found


def artifact(exported: Exported) -> Artifact:
    return file_artifact("net", exported.path, exported.path.parent)


def served(exported: Exported, inputs: Tensors) -> Tensors:
    """Return what ONNX Runtime answers for the exported file."""
    made = artifact(exported)
    backend = registry.backend("onnxruntime")
    session = backend.open(made, precision=made.precision, device="CPU", threads=1)
    return session.run(inputs)


def assert_answers_alike(origin: Origin, exported: Exported, inputs: Tensors) -> Tensors:
    """Hold the export to the original: names, dtypes, shapes and values; return the original's."""
    reference = origin.reference(inputs)
    outputs = served(exported, inputs)
    assert list(outputs) == list(reference)
    for name, wanted in reference.items():
        assert outputs[name].dtype == wanted.dtype
        assert outputs[name].shape == wanted.shape
        np.testing.assert_allclose(outputs[name], wanted, rtol=1e-4, atol=1e-5)
    return reference
