"""JSON Schemas of bodies: the fixed ones, and those that a model's signature gives."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from scanflow_serve.runtime.tensors import Signature, TensorSpec
from scanflow_serve.serving.http.oip_tensors import DATATYPES, datatype

Json = dict[str, Any]

BINARY: Json = {"type": "string", "format": "binary"}
COUNT: Json = {"type": "integer", "minimum": 0}
TEXT: Json = {"type": "string"}


def ref(name: str) -> Json:
    """Return the reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(members: Json, optional: tuple[str, ...] = (), *, closed: bool = False) -> Json:
    """Return the schema of an object whose members are all required but the *optional* ones."""
    required = [name for name in members if name not in optional]
    schema: Json = {"type": "object", "properties": members, "required": required}
    return schema | {"additionalProperties": False} if closed else schema


def items(schema: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def path_parameter(name: str, values: list[str]) -> Json:
    """Return a path variable that takes the given values."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": values},
    }


REQUEST_HEADERS: tuple[Json, ...] = (
    {
        "name": "Scanflow-Deadline-Ms",
        "in": "header",
        "description": "Budget of this request, in ms; refused with 504 if it can't be met.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "example": 1000,
    },
    {
        "name": "Scanflow-Prefer",
        "in": "header",
        "description": "Over the policy's rules and objective.",
        "schema": {"type": "string", "enum": ["latency", "accuracy"]},
    },
)

_TENSOR = record(
    {
        "name": TEXT,
        "datatype": {"enum": sorted(DATATYPES.values())},
        "shape": items({"type": "integer"}),
    }
)
_DURATION = record({"count": COUNT, "ns": COUNT})
_STAGES = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)
_ONE_OR_MORE: Json = {"type": ["string", "array"], "items": TEXT}

COMPONENTS: Json = {
    "Problem": record(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": TEXT,
            "instance": TEXT,
        },
        optional=("instance",),
    ),
    "OipError": record({"error": TEXT}),
    "Prediction": record(
        {
            "id": _ONE_OR_MORE | {"description": "One a row; for /feedback."},
            "label": {"description": "Class names or indices; null without a class output."},
            "outputs": {"type": "object"},
            "model": TEXT,
            "version": TEXT,
            "variant": TEXT,
            "workflow": TEXT,
            "latency_ms": {"type": "number", "minimum": 0},
        }
    ),
    "Invocation": record(
        {
            "predictions": {"type": ["array", "object"]},
            "scanflow_prediction_ids": items(TEXT) | {"description": "One a row; for /feedback."},
        }
    ),
    "ServerMetadata": record({"name": TEXT, "version": TEXT, "extensions": items(TEXT)}),
    "Health": record(
        {"live": {"type": "boolean"}, "ready": {"type": "boolean"}, "error": TEXT},
        optional=("error",),
    ),
    "Live": record({"live": {"const": True}}),
    "Ready": record({"ready": {"const": True}}),
    "ModelMetadata": record(
        {
            "name": TEXT,
            "versions": items(TEXT),
            "platform": TEXT,
            "inputs": items(_TENSOR),
            "outputs": items(_TENSOR),
            "parameters": {"type": "object"},
        }
    ),
    "ModelReady": record({"name": TEXT, "ready": {"type": "boolean"}}),
    "Statistics": record(
        {
            "model_stats": items(
                record(
                    {
                        "name": TEXT,
                        "version": TEXT,
                        "last_inference": COUNT,
                        "inference_count": COUNT,
                        "execution_count": COUNT,
                        "inference_stats": record(dict.fromkeys(_STAGES, _DURATION)),
                        "batch_stats": items({"type": "object"}),
                    }
                )
            )
        }
    ),
    "IndexEntry": record(
        {
            "name": TEXT,
            "version": TEXT,
            "state": {"enum": ["READY", "UNAVAILABLE"]},
            "reason": TEXT,
        }
    ),
    "InferReply": record(
        {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "parameters": {"type": "object"},
            "outputs": items(
                record(
                    {
                        "name": TEXT,
                        "datatype": {"enum": sorted(DATATYPES.values())},
                        "shape": items(COUNT),
                        "data": {"type": "array"},
                        "parameters": {"type": "object"},
                    },
                    optional=("data", "parameters"),
                )
            ),
        },
        optional=("id",),
    ),
    "PolicyText": record({"name": TEXT, "file": TEXT, "digest": TEXT, "text": TEXT}),
}
INDEX_BODY = record({"ready": {"type": "boolean"}}, optional=("ready",))


def element(dtype: str) -> Json:
    """Return the schema of one element of a tensor."""
    if dtype == "str":
        return TEXT
    if dtype == "bool":
        return {"type": "boolean"}
    if dtype.startswith("float"):
        most = float(np.finfo(dtype).max)
        return {"type": "number", "minimum": -most, "maximum": most}
    info = np.iinfo(dtype)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def rows_of(spec: TensorSpec, max_rows: int) -> Json:
    """Return the schema of an input with its batch dimension, as nested lists."""
    schema = element(spec.dtype)
    for size in reversed(spec.shape[1:]):
        schema = items(schema) | (
            {"minItems": 1} if size is None else {"minItems": size, "maxItems": size}
        )
    return items(schema) | {"minItems": 1, "maxItems": max_rows} if spec.shape else schema


def by_name(signature: Signature, max_rows: int) -> Json:
    """Return the schema of name -> array; of one row where the inputs' rows must agree."""
    most = max_rows if len(signature.inputs) == 1 else 1
    members = {spec.name: rows_of(spec, most) for spec in signature.inputs}
    return record(members, closed=True)


def inputs_of(signature: Signature, max_rows: int) -> Json:
    """Return the schema of ``inputs``: an array for an only input, or name -> array."""
    named = by_name(signature, max_rows)
    if len(signature.inputs) != 1:
        return named
    return {"anyOf": [rows_of(signature.inputs[0], max_rows), named]}


def predict_body(signature: Signature, max_rows: int) -> Json:
    """Return the schema of /predict's JSON."""
    return record({"inputs": inputs_of(signature, max_rows)}, closed=True)


def invocations_body(signature: Signature, max_rows: int) -> Json:
    """Return the schema of /invocations' JSON: exactly one of MLflow's four forms."""
    forms = [record({"inputs": inputs_of(signature, max_rows)}, closed=True)]
    if len(signature.inputs) == 1:
        spec = signature.inputs[0]
        forms.append(record({"instances": rows_of(spec, max_rows)}, closed=True))
        width = math.prod(n or 1 for n in spec.shape[1:])
        row = items(element(spec.dtype)) | {"minItems": width, "maxItems": width}
        rows = items(row) | {"minItems": 1, "maxItems": max_rows}
        forms.append(record({"dataframe_split": record({"data": rows}, closed=True)}, closed=True))
    return {"anyOf": forms}


def infer_body(signature: Signature, max_rows: int) -> Json:
    """Return the schema of an OIP request; more rows than one need more ``data``."""
    del max_rows
    tensors = [_infer_input(spec) for spec in signature.inputs]
    parameters: Json = {
        "type": ["object", "null"],
        "properties": {
            "timeout": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 2**53,
                "description": "µs",
            },
            "binary_data_output": {"type": "boolean"},
        },
    }
    output = record({"name": {"enum": [spec.name for spec in signature.outputs]}})
    return record(
        {
            "id": {"type": ["string", "null"]},
            "parameters": parameters,
            "inputs": {
                "type": "array",
                "prefixItems": tensors,
                "items": False,
                "minItems": len(tensors),
            },
            "outputs": items(output) | {"type": ["array", "null"], "maxItems": 1},
        },
        optional=("id", "parameters", "outputs"),
    )


def _infer_input(spec: TensorSpec) -> Json:
    """Return the schema of one input; of one row, whose element count JSON Schema can state."""
    row = [1, *(n or 1 for n in spec.shape[1:])]
    count = math.prod(row)
    return record(
        {
            "name": {"const": spec.name},
            "datatype": {"const": datatype(spec)},
            "shape": {"const": row} if None not in spec.shape[1:] else items(COUNT),
            "data": items(element(spec.dtype)) | {"minItems": count, "maxItems": count},
        }
    )


_CELLS = {"f": r"-?[0-9]{1,6}(\.[0-9]{1,6})?", "b": "(true|false)", "O": "[a-z]{1,9}"}
_WHOLE = "[0-9]{1,2}"


def csv_body(signature: Signature, *, header: bool) -> Json:
    """Return the schema of a CSV body: a string whose pattern has the right number of cells."""
    rows: list[str] = []
    names: list[str] = []
    for spec in signature.inputs:
        width = math.prod(n or 1 for n in spec.shape[1:])
        rows += [_CELLS.get(spec.numpy_dtype.kind, _WHOLE)] * width
        names += ["[a-z]{1,9}"] * width if len(signature.inputs) == 1 else [re.escape(spec.name)]
    line = ",".join(rows)
    first = ",".join(names) + "\n" if header else ""
    return {"type": "string", "pattern": f"^{first}{line}(\n{line})*\n?$"}
