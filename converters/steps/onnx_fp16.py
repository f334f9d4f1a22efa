"""ONNX in half precision, for processors that compute in it."""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto, TensorProto
from onnxruntime.transformers.float16 import (  # type: ignore[import-untyped]
    convert_float_to_float16,
)
from onnxruntime.transformers.onnx_model import OnnxModel  # type: ignore[import-untyped]

from scanflow_serve.converters.admission import load, tensors
from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.steps.onnx_files import reason, save
from scanflow_serve.policies.errors import ArtifactError


def convert(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with weights and operators in fp16; inputs and outputs keep their dtypes."""
    model = load(source)
    try:
        half: ModelProto = convert_float_to_float16(
            model, keep_io_types=True, node_block_list=list(context.options.ignored)
        )
        OnnxModel(half).topological_sort()  # casts of inputs are appended behind their readers
    except MemoryError:
        raise
    except Exception as error:  # the converter raises whatever fails in it
        raise ArtifactError(
            f"{source}: onnxruntime can't convert it to fp16: {reason(error, model)}."
        ) from error
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in tensors(half)):
        raise ArtifactError(
            f"{source}: fp16 needs float weights outside of ai.onnx.ml operators, got none. "
            "Use fp32."
        )
    return save(half, folder)
