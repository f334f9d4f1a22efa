"""How MLflow describes an artifact: the MLmodel file, metrics, tags.

Source: https://mlflow.org/docs/latest/ml/model/ ("MLmodel file format", signatures).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.tensors import TensorSpec

TAG_LENGTH = 5000  # characters; servers before MLflow 2.15 refuse a longer one
MAX_METRICS = 200
OWN_FLAVOUR = "scanflow_serve"  # for what MLflow has no flavour of


def write(folder: Path, artifact: Artifact, file: Path) -> None:
    """Write the MLmodel file of *artifact*, whose *file* lies below ``artifact/``, to *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"data": f"artifact/{file.as_posix()}"}
    if artifact.format == "onnx":
        flavour = "onnx"
        settings |= {"onnx_version": artifact.manifest.tools.get("onnx", ""), "providers": None}
    else:
        flavour = OWN_FLAVOUR
        settings |= {"format": artifact.format, "precision": artifact.precision}
    document = {
        "artifact_path": "model",
        "flavors": {flavour: settings},
        "signature": {
            "inputs": json.dumps([_tensor(spec) for spec in artifact.signature.inputs]),
            "outputs": json.dumps([_tensor(spec) for spec in artifact.signature.outputs]),
            "params": None,
        },
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document, sort_keys=True), encoding="utf-8")


def metrics(artifact: Artifact) -> dict[str, float]:
    """Return the figures of the verification by dotted name, with what a metric's name may hold."""
    named = _figures("verification", artifact.manifest.verification)
    found = {re.sub(r"[^\w.\- /]", "_", name)[:250]: value for name, value in named}
    kept = dict(list(found.items())[: MAX_METRICS - 1])
    return {**kept, "size_mb": artifact.size_bytes / 2**20}


def tag_text(value: Any) -> str:
    """Return *value* as JSON, or where to find it if that is too long for a tag.

    >>> tag_text({"error": 0.01})
    '{"error":0.01}'
    """
    if value in (None, {}):
        return ""
    text = json.dumps(value, separators=(",", ":"), default=dict)
    return text if len(text) <= TAG_LENGTH else "see model/artifact/manifest.json"


def public(text: str) -> str:
    """Return *text* without the user and password of the addresses in it.

    >>> public("no answer from https://me:secret@mlflow.example:5000/api")
    'no answer from https://mlflow.example:5000/api'
    """
    return re.sub(r"(?<=://)[^/\s]+@", "", text)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    form = {"dtype": spec.dtype, "shape": [-1 if n is None else n for n in spec.shape]}
    return {"name": spec.name, "type": "tensor", "tensor-spec": form}


def _figures(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _figures(f"{name}.{key}", inner)
    elif isinstance(value, int | float) and math.isfinite(value):
        yield name, float(value)
