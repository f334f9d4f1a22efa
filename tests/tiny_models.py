"""ONNX models of a few nodes, written to a file: what the backends' tests load."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scanflow_serve.runtime.artifacts import Artifact, Manifest, file_digest
from scanflow_serve.runtime.backends.session import Backend

Shape = Sequence[int | str]
ELEMENT = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
    "str": TensorProto.STRING,
}


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[str, Shape]],
    outputs: dict[str, tuple[str, Shape]],
    weights: dict[str, np.ndarray] | None = None,
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(n, ELEMENT[t], s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, ELEMENT[t], s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def identity(path: Path, dtype: str, shape: Shape = ("batch", 3)) -> Path:
    node = helper.make_node("Identity", ["x"], ["y"])
    return write(path, [node], {"x": (dtype, shape)}, {"y": (dtype, shape)})


def linear(
    path: Path, *, batch: int | str = "batch", features: int = 4, classes: int = 3, hidden: int = 0
) -> Path:
    """A dense layer, after a hidden one of *hidden* units where that is not 0."""
    random = np.random.default_rng(0)
    sizes = [features, hidden, classes] if hidden else [features, classes]
    nodes, weights, last = [], {}, "x"
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        weights[f"w{i}"] = random.normal(size=(rows, columns)).astype(np.float32)
        name = "logits" if i == len(sizes) - 2 else f"h{i}"
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [name]))
        last = name
    return write(
        path,
        nodes,
        {"x": ("float32", [batch, features])},
        {"logits": ("float32", [batch, classes])},
        weights,
    )


def sum_and_difference(path: Path) -> Path:
    """Two inputs, three outputs, one of them computed from the other's tensor."""
    nodes = [
        helper.make_node("Add", ["left", "right"], ["total"]),
        helper.make_node("Sub", ["left", "right"], ["difference"]),
        helper.make_node("Identity", ["total"], ["again"]),
    ]
    of = ("float32", ["batch", 2])
    return write(
        path, nodes, {"left": of, "right": of}, {"difference": of, "total": of, "again": of}
    )


def artifact(path: Path, backend: Backend, *, precision: str = "fp32") -> Artifact:
    digest = file_digest(path)
    return Artifact(
        id=digest,
        model=path.stem,
        format="onnx",
        precision=precision,
        path=path,
        size_bytes=path.stat().st_size,
        signature=backend.signature(str(path)),
        manifest=Manifest(source=path.name, source_digest=digest),
    )
