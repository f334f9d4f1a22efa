"""ONNX in int8, by ONNX Runtime's own quantisation.

Static: ranges of activations are measured on calibration rows. Dynamic: they are measured on each
request, so that no rows are needed, but only matrix products gain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime import quantization  # type: ignore[import-untyped]

from scanflow_serve.converters.admission import load, nodes
from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.steps.onnx_files import NAME, reason, recent, save
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Tensors

QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeLSTM")
DYNAMIC_OPERATORS = ("MatMul", "Gemm", "LSTM", "Attention")  # a convolution is slower for it
STATIC_OPERATORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")  # around which others are too


class RowReader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration rows to ONNX Runtime, batch by batch."""

    def __init__(self, batches: Iterator[Tensors]) -> None:
        self._batches = batches

    def get_next(self) -> Tensors | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)


def quantize_static(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with quantised and dequantised tensors around each operator, per channel.

    Activations are uint8 on x86, whose instructions multiply unsigned by signed, and int8
    elsewhere: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    model = recent(load(source))
    names, batch = _inputs(model)
    batches = list(context.batches(names, batch))
    x86 = not context.features & {"neon", "asimd", "asimddp"}
    run = functools.partial(
        quantization.quantize_static,
        calibration_data_reader=RowReader(iter(batches)),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8 if x86 else quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    _require(STATIC_OPERATORS, model, source)
    return _quantize(run, model, source, folder, context)


def quantize_dynamic(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with int8 weights of its matrix products, whose inputs are quantised live."""
    run = functools.partial(
        quantization.quantize_dynamic,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=list(DYNAMIC_OPERATORS),
    )
    model = recent(load(source))
    _require(DYNAMIC_OPERATORS, model, source)
    return _quantize(run, model, source, folder, context)


def _quantize(
    run: Callable[..., None], model: ModelProto, source: Path, folder: Path, context: Context
) -> Path:
    path = folder / NAME
    try:
        run(
            model,
            path,
            per_channel=True,
            reduce_range=context.saturates,
            nodes_to_exclude=list(context.options.ignored),
        )
        made = onnx.load(path)
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise ArtifactError(
            f"{source}: onnxruntime can't quantise it: {reason(error, model)}."
        ) from error
    if not any(node.op_type in QUANTISED for node in nodes(made)):
        raise ArtifactError(
            f"{source}: ONNX Runtime must quantise an operator, but left all as they are. "
            "Give weights as constants, or use fp32."
        )
    del made.metadata_props[:]
    return save(made, folder)


def _require(kinds: Collection[str], model: ModelProto, source: Path) -> None:
    found = {node.op_type for node in nodes(model)}
    if not found & set(kinds):
        raise ArtifactError(
            f"{source}: int8 needs an operator of {', '.join(kinds)}, "
            f"got {', '.join(sorted(found))}. Use fp32."
        )


def _inputs(model: ModelProto) -> tuple[list[str], int | None]:
    """Return the names of the inputs, and the batch size if the model insists on one."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in defaults]
    sizes = {
        port.type.tensor_type.shape.dim[0].dim_value
        for port in ports
        if port.type.tensor_type.shape.dim
    }
    return [port.name for port in ports], (sizes.pop() or None) if len(sizes) == 1 else None
