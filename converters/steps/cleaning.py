"""Cleans an ONNX graph: what can be computed now is, and nothing but the model is left."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.inliner
import onnxslim  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto

from scanflow_serve.converters.admission import graphs, load, nodes
from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.steps.onnx_files import reason, save
from scanflow_serve.policies.errors import ArtifactError

# A folded constant may take this much more than what it is computed from: a Tile or Expand of a
# few bytes can stand for gigabytes.
FOLDED_BYTES = 2**20


def clean(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with constants folded, operators fused, shapes inferred, and no metadata."""
    model = load(source)
    expected = _interface(model)
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        cleaned = onnxslim.slim(model, size_threshold=FOLDED_BYTES)
    except MemoryError:
        raise
    except Exception as error:  # onnxslim lets through whatever its many parts raise
        raise ArtifactError(f"{source}: onnxslim can't read it: {reason(error, model)}.") from error
    if (got := _interface(cleaned)) != expected:
        raise ArtifactError(
            f"{source}: onnxslim must keep inputs and outputs {expected}, got {got}. "
            "Report the model to https://github.com/inisis/OnnxSlim."
        )
    strip(cleaned)
    return save(cleaned, folder)


def strip(model: ModelProto) -> None:
    """Remove documentation and metadata from *model*.

    PyTorch's exporter writes stack traces into them, with paths of the machine that exported:
    15 to 20 % of a small file, and nobody else's business.
    """
    del model.metadata_props[:]
    model.ClearField("doc_string")
    for function in model.functions:
        del function.metadata_props[:]
        function.ClearField("doc_string")
    _strip_graph(model.graph)
    for node in nodes(model):
        del node.metadata_props[:]
        node.ClearField("doc_string")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for graph in graphs(attribute):
                _strip_graph(graph)


def _strip_graph(graph: GraphProto) -> None:
    del graph.metadata_props[:]
    graph.ClearField("doc_string")
    for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del item.metadata_props[:]
        item.ClearField("doc_string")


def _interface(model: ModelProto) -> dict[str, int]:
    """Return the element type of every input that has no default, and of every output."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    ports = [*model.graph.input, *model.graph.output]
    return {p.name: p.type.tensor_type.elem_type for p in ports if p.name not in defaults}
