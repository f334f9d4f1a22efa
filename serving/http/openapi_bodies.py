"""JSON Schemas of the bodies that a model's signature gives."""

from __future__ import annotations

import math
import re

import numpy as np

from scanflow_serve.runtime.tensors import Signature, TensorSpec
from scanflow_serve.serving.http.oip_tensors import datatype
from scanflow_serve.serving.http.openapi_schemas import COUNT, TEXT, Json, items, record


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
    """Return the schema of an OIP request in JSON."""
    tensors = [_infer_input(spec, max_rows) for spec in signature.inputs]
    parameters: Json = {
        "type": ["object", "null"],
        "properties": {
            "timeout": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 2**53,
                "description": "µs",
            },
            "priority": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 2**32 - 1,
                "description": "1 goes first, 2 is as 0, the default.",
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


def _infer_input(spec: TensorSpec, max_rows: int) -> Json:
    """Return the schema of one input; JSON Schema can't tie the length of data to shape."""
    sizes: list[Json] = [{"type": "integer", "minimum": 1, "maximum": max_rows}]
    sizes += [COUNT if n is None else {"const": n} for n in spec.shape[1:]]
    flat = items(element(spec.dtype)) | {"minItems": math.prod(n or 0 for n in spec.shape[1:])}
    return record(
        {
            "name": {"const": spec.name},
            "datatype": {"const": datatype(spec)},
            "shape": {
                "type": "array",
                "prefixItems": sizes,
                "items": False,
                "minItems": len(sizes),
                "description": "Rows first.",
            },
            "data": {
                "anyOf": [flat, rows_of(spec, max_rows)],
                "description": "Flat or nested; as many elements as shape says, rows first.",
            },
        }
    )


def infer_example(signature: Signature) -> Json:
    """Return an OIP request of two rows that is answered."""
    tensors = []
    for spec in signature.inputs:
        shape = [2, *(n or 1 for n in spec.shape[1:])]
        zero = {"str": "", "bool": False}.get(spec.dtype, 0)
        data = [zero] * math.prod(shape)
        tensors.append(
            {"name": spec.name, "datatype": datatype(spec), "shape": shape, "data": data}
        )
    return {"inputs": tensors}


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
