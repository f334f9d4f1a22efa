"""ONNX whose weights are stored in fewer bits, and computed in fp32: a half or a quarter of bytes.

Each weight is kept in fp16 or int8 beside a node that widens it. ONNX Runtime folds that node as
it loads the file (`runtime.backends.ort`), so that it costs no time, and saves no memory, later.
nncf.compress_weights 3.4 does the same for int8, but gives convolutions scales of three
dimensions, which ONNX Runtime refuses, and leaves recurrent layers as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from scanflow_serve.converters.admission import load
from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.steps.onnx_files import recent, save
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Array

SMALLEST = 256  # numbers; the node that widens takes about 200 bytes itself
LEAST = 8  # numbers of a channel, whose scale takes four bytes
# Operator -> the input that holds weights, and their dimension of which each place has a scale.
CHANNELS: Mapping[str, Mapping[int, int]] = {
    "Conv": {1: 0},
    "ConvTranspose": {1: 1},
    "Gather": {0: 0},
    "Gemm": {1: 1},
    "GRU": {1: 1, 2: 1},
    "LSTM": {1: 1, 2: 1},
    "MatMul": {0: -2, 1: -1},
    "RNN": {1: 1, 2: 1},
}
Stored = Callable[[TensorProto], tuple[list[TensorProto], NodeProto] | None]


def store_int8(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with the weights of its products, convolutions and tables in int8.

    Each channel has a scale: its largest number is 127 (symmetric quantisation, so that 0 is 0).
    """
    model = recent(load(source))
    axes = _channels(model, context.options.ignored)

    def stored(weight: TensorProto) -> tuple[list[TensorProto], NodeProto] | None:
        if weight.name not in axes:
            return None
        values = numpy_helper.to_array(weight)
        axis = axes[weight.name] % values.ndim
        if values.size < LEAST * values.shape[axis] or not np.isfinite(values).all():
            return None
        numbers, scales = _quantised(values, axis)
        narrow = numpy_helper.from_array(numbers, f"{weight.name}_int8")
        scale = numpy_helper.from_array(scales, f"{weight.name}_scale")
        inputs = [narrow.name, scale.name]
        widen = helper.make_node("DequantizeLinear", inputs, [weight.name], axis=axis)
        return [narrow, scale], widen

    return _save(model, stored, "w8", f"weights of {', '.join(sorted(CHANNELS))}", source, folder)


def store_half(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with its weights in fp16; those that fp16 can't hold stay in fp32."""
    model = load(source)
    ignored = {
        name
        for node in model.graph.node
        if node.name in context.options.ignored
        for name in node.input
    }

    def stored(weight: TensorProto) -> tuple[list[TensorProto], NodeProto] | None:
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):  # to infinity, which is what is asked
            half = values.astype(np.float16)
        if weight.name in ignored or not np.isfinite(half).all():
            return None
        narrow = numpy_helper.from_array(half, f"{weight.name}_fp16")
        widen = helper.make_node("Cast", [narrow.name], [weight.name], to=TensorProto.FLOAT)
        return [narrow], widen

    return _save(model, stored, "w16", "weights that fp16 can hold", source, folder)


def _save(
    model: ModelProto, stored: Stored, precision: str, what: str, source: Path, folder: Path
) -> Path:
    """Write *model* with every weight as *stored* gives it; None: as it is."""
    graph = model.graph
    fixed = {port.name for port in graph.input}  # a weight among them is only a default
    kept: list[TensorProto] = []
    widening: list[NodeProto] = []
    for tensor in graph.initializer:
        found = stored(tensor) if tensor.name not in fixed and _is_weight(tensor) else None
        tensors, nodes = ([tensor], []) if found is None else (found[0], [found[1]])
        kept += tensors
        widening += nodes
    if not widening:
        raise ArtifactError(
            f"{source}: {precision} needs {what}, {SMALLEST} numbers or more, got none. Use fp32."
        )
    nodes = [*widening, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return save(model, folder)


def _is_weight(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= SMALLEST


def _channels(model: ModelProto, ignored: tuple[str, ...]) -> dict[str, int]:
    """Return the dimension of the channels by the name of each weight that only one suits."""
    found: dict[str, set[int | None]] = {}
    for node in model.graph.node:
        axes = dict(_axes(node)) if node.name not in ignored else {}
        for position, name in enumerate(node.input):
            found.setdefault(name, set()).add(axes.get(position))
    sole = {name: axes.pop() for name, axes in found.items() if len(axes) == 1}
    return {name: axis for name, axis in sole.items() if axis is not None}


def _axes(node: NodeProto) -> Iterator[tuple[int, int]]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for position, axis in CHANNELS.get(node.op_type, {}).items() if not node.domain else ():
        transposed = node.op_type == "Gemm" and attributes.get("transB", 0)
        yield position, 0 if transposed else axis


def _quantised(values: Array, axis: int) -> tuple[Array, Array]:
    """Return int8 numbers, and the scale of each channel along *axis*, shape (channels,)."""
    others = tuple(n for n in range(values.ndim) if n != axis)
    reach = np.abs(values).max(axis=others)
    scales = np.where(reach > 0, reach / 127, 1).astype(np.float32)
    shape = [-1 if n == axis else 1 for n in range(values.ndim)]
    return np.rint(values / scales.reshape(shape)).astype(np.int8), scales
