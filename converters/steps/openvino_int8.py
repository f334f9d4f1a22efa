"""OpenVINO IR in int8, by NNCF: activations and weights on calibration rows, or weights alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nncf  # type: ignore[import-untyped]
from nncf.quantization.advanced_parameters import (  # type: ignore[import-untyped]
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    OverflowFix,
)
from nncf.quantization.range_estimator import (  # type: ignore[import-untyped]
    RangeEstimatorParametersSet,
)

from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.steps.onnx_files import reason
from scanflow_serve.converters.steps.openvino_ir import read, save
from scanflow_serve.policies.errors import ArtifactError

nncf.set_log_level(logging.ERROR)
QUANTISED = {"FakeQuantize", "FakeConvert"}
ATTENTION = {"Softmax", "ScaledDotProductAttention"}
# NNCF takes the mean over rows of each row's range, which clips where a row has few numbers.
# Relative errors on held-out rows, mean and whole range: MLP of 64 pixels 0.040 and 0.006, CNN of
# 64 pixels 0.018 and 0.009, transformer 0.049 and 0.011, CNN of 3 x 96 x 96 0.0003 and 0.0002.
RANGES = RangeEstimatorParametersSet.MINMAX
# NNCF's default for transformers moves the range of activations into weights. Of a transformer of
# two layers (64 wide) it made the relative error 0.30, and 0.05 without.
NO_SMOOTHING = AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
NORM = {"MVN", "RMS"}  # what a layer normalisation becomes


def quantize(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with weights and activations in int8, ranges measured on `Context.rows`."""
    model = read(source)
    ports = {_input_name(port): port for port in model.inputs}
    batches = list(context.batches(ports, _batch(model)))
    kinds = {node.get_type_name() for node in model.get_ops()}
    transformer = bool(kinds & ATTENTION) and bool(kinds & NORM)
    fix = OverflowFix.ENABLE if context.saturates else OverflowFix.DISABLE

    def run() -> Any:
        return nncf.quantize(
            model,
            nncf.Dataset(batches, lambda batch: {_key(p): batch[n] for n, p in ports.items()}),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            ignored_scope=_ignored(context),
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RANGES,
                overflow_fix=fix,
                smooth_quant_alphas=NO_SMOOTHING,
            ),
        )

    quantised = _apply(run, source)
    if not any(node.get_type_name() in QUANTISED for node in quantised.get_ops()):
        raise ArtifactError(
            f"{source}: int8 needs an operator that NNCF can quantise, got "
            f"{', '.join(sorted(kinds - {'Parameter', 'Constant', 'Result'}))}. Use fp32."
        )
    return save(quantised, folder)


def compress_weights(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with the weights of matrix products and convolutions in int8."""
    model = read(source)
    compressed = _apply(
        lambda: nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT8_ASYM,
            ignored_scope=_ignored(context),
        ),
        source,
    )
    stored = (
        node.get_element_type().get_type_name()
        for node in compressed.get_ops()
        if node.get_type_name() == "Constant" and node.get_output_size()
    )
    if not any(kind in ("u8", "i8") for kind in stored):
        raise ArtifactError(f"{source}: w8 needs weights of matrix products, got none. Use fp32.")
    return save(compressed, folder)


def _apply(run: Callable[[], Any], source: Path) -> Any:
    try:
        return run()
    except MemoryError:
        raise
    except Exception as error:  # nncf's and openvino's exceptions share no other base
        raise ArtifactError(f"{source}: nncf can't quantise it: {reason(error)}.") from error


def _ignored(context: Context) -> Any:
    names = list(context.options.ignored)
    return nncf.IgnoredScope(names=names) if names else None


def _input_name(port: Any) -> str:
    """Return the name that rows have: the parameter's own, as in `runtime.backends.ov`."""
    own = str(port.get_node().get_friendly_name())
    names = port.get_names()
    return own if own in names or not names else str(min(names))


def _key(port: Any) -> str:
    return str(port.get_any_name())


def _batch(model: Any) -> int | None:
    shapes = [port.partial_shape for port in model.inputs]
    firsts = [shape[0] for shape in shapes if shape.rank.is_static and len(shape)]
    sizes = {None if first.is_dynamic else int(first.get_length()) for first in firsts}
    return sizes.pop() if len(sizes) == 1 else None
