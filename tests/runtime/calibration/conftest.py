from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from scanflow_serve.policies import schema
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.host.model import Cpu, HostProfile

CONTRACT = Path(__file__).parents[2] / "contract"
MODELS = ("digits-mlp", "digits-cnn")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def host() -> HostProfile:
    return HostProfile(kind="desktop", arch="x86_64", cpu=Cpu(cores=2), memory_mb=4096)


@pytest.fixture
def policy_of(tmp_path: Path) -> Callable[..., PolicyFile]:
    """A policy over the contract's models, in a folder of its own; keys replace the defaults."""
    folder = tmp_path / "policy"
    folder.mkdir()
    for part in ("models", "data"):
        shutil.copytree(CONTRACT / part, folder / part)

    def make(**keys: Any) -> PolicyFile:
        document: dict[str, Any] = {
            "apiVersion": "scanflow/v1",
            "name": "digits",
            "models": {name: {"source": f"models/{name}.onnx"} for name in MODELS},
            "validation": {
                "data": "data/digits-validation.npz",
                "input": "pixels",
                "target": "label",
            },
            "workflows": {"classify": {"steps": [{"model": list(MODELS)}]}},
            "targets": [{"run": "classify"}],
            "objective": {"maximize": "accuracy"},
            "scheduling": {"max_batch": 4},
        }
        document = {k: v for k, v in (document | keys).items() if v is not None}
        policy = schema.Policy.model_validate(document)
        return PolicyFile(policy, folder / "digits.yaml", folder.resolve(), "", "")

    return make


@pytest.fixture
def artifacts() -> Mapping[str, tuple[Artifact, ...]]:
    backend = registry.backend("onnxruntime")
    return {
        name: (tiny_models.artifact(CONTRACT / "models" / f"{name}.onnx", backend),)
        for name in MODELS
    }
