"""Writing ONNX models, and quoting what a library has to say about one."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import onnx.version_converter
from onnx import ModelProto

from scanflow_serve.converters.admission import nodes

NAME = "model.onnx"
MAX_PROTO_BYTES = 2**31 - 1  # of one protobuf message
PER_CHANNEL_OPSET = 13  # the first whose QuantizeLinear and DequantizeLinear have an axis
NODES_NAMED = 3  # of one operator, in an error
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Check '.*?' failed at \S+:|Exception from \S+:|"
    r"FrontEnd API failed with \w+:|Model wasn't fully converted\.|Failed operations detailed log:|"
    r"\[ONNX Frontend\] Conversion failed for \S+|Summary:.*"
)


def save(model: ModelProto, folder: Path) -> Path:
    """Write *model* into *folder*, weights beside it where one file can't hold them.

    Raises:
        onnx.checker.ValidationError: A tool has made something that is not ONNX.
    """
    path = folder / NAME
    large = model.ByteSize() > MAX_PROTO_BYTES - 2**20
    onnx.save(model, path, save_as_external_data=large, location="weights.bin")
    onnx.checker.check_model(path)
    return path


def recent(model: ModelProto) -> ModelProto:
    """Return *model* at an opset that has quantisation per channel."""
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset >= PER_CHANNEL_OPSET:
        return model
    return onnx.version_converter.convert_version(model, PER_CHANNEL_OPSET)


def reason(error: object, model: ModelProto | None = None) -> str:
    r"""Return what *error* says in one line, after the operators of *model* that it names.

    >>> reason(RuntimeError("Check 'false' failed at src/a.cpp:1:\nno such thing."))
    'no such thing'
    """
    lines = [_NOISE.sub("", line).strip().removeprefix("-- ") for line in str(error).splitlines()]
    text = " ".join(line for line in lines if line) or type(error).__name__
    named = blamed(str(error), model) if model is not None else ""
    return f"{named}: {text}".strip(": .") if named else text.rstrip(".")


def blamed(text: str, model: ModelProto) -> str:
    """Return the operators that *text* names, with their nodes; empty if it names none."""
    found: dict[str, list[str]] = {}
    for node in nodes(model):
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        found.setdefault(kind, []).append(node.name or next(iter(node.output), ""))
    told = []
    for kind, names in found.items():
        # OpenVINO writes domain.Operator and Operator-17, ONNX Runtime domain:Operator(-1).
        pattern = re.escape(kind).replace(r"\\.", "[.:]")
        if re.search(rf"(?<![\\w.]){pattern}(?![a-z_])", text):
            more = ", …" if len(names) > NODES_NAMED else ""
            listed = ", ".join(map(repr, names[:NODES_NAMED]))
            told.append(f"operator {kind} (node {listed}{more})")
    return ", ".join(told)
