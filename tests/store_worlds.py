"""Artifacts of a few bytes: what tests of the store publish, in this process and in others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scanflow_serve.runtime.artifacts import Manifest
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.store import artifact_key
from scanflow_serve.runtime.stored import Made, Refused
from scanflow_serve.runtime.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("x", "float32", (None, 4)),),
    outputs=(TensorSpec("y", "float32", (None, 3)), TensorSpec("label", "str", (None,))),
)
MANIFEST = Manifest(
    source="models/net.onnx",
    source_digest="5a" * 32,
    route=("onnx-clean", "onnx-int8"),
    tools={"onnx": "1.23.2", "onnxruntime": "1.32.0"},
    verification={"onnxruntime": {"y": {"error": 0.01, "agreement": 0.99}}},
    options={"calibration": "77" * 32, "rows": 300},
    effective={"onnxruntime": "int8"},
    durations_s={"onnx-clean": 0.25, "onnx-int8": 1.5},
)
REFUSED = Refused(
    model="net",
    format="onnx",
    precision="int8",
    refusal=Refusal("verification", "output 'y' must be finite, got 3 NaN or Inf."),
    manifest=replace(MANIFEST, verification={"y": {"error": float("nan"), "agreement": 0.5}}),
)


def key_of(name: str) -> str:
    return artifact_key(name, MANIFEST.route, MANIFEST.options, MANIFEST.tools)


def made(folder: Path, content: bytes = b"graph", weights: bytes = b"weights") -> Made:
    """An ONNX file with external data below it, and an intermediate that nobody needs."""
    model, data = folder / "2-int8" / "net.onnx", folder / "2-int8" / "net.data"
    for path, value in ((folder / "1-clean" / "net.onnx", b"x"), (model, content), (data, weights)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    return Made("net", "onnx", "int8", (model, data), SIGNATURE, MANIFEST)


def maker(content: bytes) -> Callable[[Path], Made]:
    return lambda folder: made(folder, content)
