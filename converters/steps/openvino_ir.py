"""OpenVINO IR from ONNX or IR, weights stored in fp32 or fp16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino  # type: ignore[import-untyped]

from scanflow_serve.converters.admission import examine
from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.steps.onnx_files import reason
from scanflow_serve.policies.errors import ArtifactError

NAME = "model.xml"
CURE = "Allow 'onnxruntime' in the policy's variants.backends, or export the model without it."


def convert(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* as IR, weights as they are."""
    return save(read(source), folder)


def convert_half(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* as IR with weights in fp16; those that fp16 can't hold stay in fp32."""
    return save(read(source), folder, half=True)


def read(source: Path) -> Any:
    """Return the ``openvino.Model`` in *source*, ONNX or IR.

    Raises:
        ArtifactError: It is malformed, or has an operator that OpenVINO lacks; names its nodes.
    """
    proto = None if source.suffix == ".xml" else examine(source)
    try:
        return openvino.Core().read_model(source)
    except Exception as error:  # openvino's exceptions share no other base
        raise ArtifactError(
            f"{source}: openvino can't convert {reason(_complaint(error), proto)}. {CURE}"
        ) from error


def _complaint(error: Exception) -> str:
    """Return the line that names the operators OpenVINO lacks, else all that *error* says."""
    text = str(error)
    return next((line for line in text.splitlines() if "No conversion rule" in line), text)


def save(model: Any, folder: Path, *, half: bool = False) -> Path:
    """Write *model* into *folder*."""
    path = folder / NAME
    openvino.save_model(model, path, compress_to_fp16=half)
    return path
