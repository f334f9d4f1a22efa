"""What an ONNX file is made of, read from its bytes: operators, weights' dtypes, external files.

A device serves ONNX without the onnx package (17 MB, in the extra ``convert``), yet must know
which files belong to a model and whether it is quantised. Only the few fields that answer this
are read, by field number; weights are skipped.

Source: onnx/onnx.proto of ONNX 1.17; Protocol Buffers, "Encoding" (wire format).
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from scanflow_serve.policies.errors import ArtifactError

Field: TypeAlias = tuple[int, "int | memoryview"]  # field number, varint or bytes

# TensorProto.DataType -> name, for what weights are stored in; other integers are indices.
FLOATS = {1: "fp32", 11: "fp32", 10: "fp16", 16: "bf16"}
INTEGERS = {2: "int8", 3: "int8", 21: "int4", 22: "int4"}
EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL
QUANTISED = (
    "QLinear",
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeLSTM",
    "ConvInteger",
    "MatMulInteger",
)
WEIGHTS_ONLY = ("DequantizeLinear", "MatMulNBits")


@dataclass(slots=True)
class Structure:
    """What was found in one model file.

    Attributes:
        operators: Operator types, domain before a dot where it is not ONNX's own.
        elements: Stored weights by what they are stored in: how many numbers.
        external: Locations of external data, relative to the model's folder.
    """

    ir_version: int = 0
    operators: set[str] = field(default_factory=set)
    elements: Counter[str] = field(default_factory=Counter)
    external: set[str] = field(default_factory=set)

    @property
    def precision(self) -> str:
        """Return the precision that the operators compute in; w8 where only weights are integers.

        Of floats, the one that most weights are stored in.
        """
        names = [name.split(".")[-1] for name in self.operators]
        for prefixes, precision in ((QUANTISED, "int8"), (WEIGHTS_ONLY, "w8")):
            if any(name.startswith(prefixes) for name in names):
                return precision
        floats = {kind: self.elements[kind] for kind in sorted(set(FLOATS.values()))}
        return max(floats, key=lambda kind: floats[kind]) if any(floats.values()) else "fp32"


def read_structure(path: Path) -> Structure:
    """Return the structure of the ONNX model in *path*.

    Raises:
        ArtifactError: The file is missing, empty, truncated or not ONNX.
    """
    found = Structure()
    try:
        with path.open("rb") as file:
            # Closed when the last view of it goes: closing by hand fails after a parse error,
            # whose traceback still holds views.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        has_graph = _read_model(memoryview(data), found)
    except OSError as error:
        raise ArtifactError(f"{path}: can't be read: {error.strerror}.") from error
    except RecursionError:
        raise ArtifactError(
            f"{path}: must be an ONNX file, got graphs nested too deep to be one. "
            "Export or copy the model again."
        ) from None
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path}: must be an ONNX file, got bytes that do not parse ({error or 'cut short'}). "
            "Export or copy the model again."
        ) from None
    if not has_graph:
        raise ArtifactError(f"{path}: must be an ONNX model with a graph, got none.")
    return found


def _read_model(data: memoryview, found: Structure) -> bool:
    has_graph = False
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            found.ir_version = value
        elif number == 7:
            has_graph = True
            _read_graph(_message(value), found)
        elif number == 25:  # FunctionProto
            for inner, node in _fields(_message(value)):
                if inner == 7:
                    _read_node(_message(node), found)
    return has_graph


def _read_graph(data: memoryview, found: Structure) -> None:
    for number, value in _fields(data):
        if number == 1:
            _read_node(_message(value), found)
        elif number == 5:
            _read_tensor(_message(value), found)
        elif number == 15:
            _read_sparse(_message(value), found)


def _read_node(data: memoryview, found: Structure) -> None:
    kind, domain = "", ""
    for number, value in _fields(data):
        if number == 4:
            kind = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5:
            _read_attribute(_message(value), found)
    found.operators.add(kind if domain in ("", "ai.onnx") else f"{domain}.{kind}")


def _read_attribute(data: memoryview, found: Structure) -> None:
    for number, value in _fields(data):
        if number in (5, 10):
            _read_tensor(_message(value), found)
        elif number in (6, 11):
            _read_graph(_message(value), found)
        elif number in (22, 23):
            _read_sparse(_message(value), found)


def _read_sparse(data: memoryview, found: Structure) -> None:
    for number, value in _fields(data):
        if number in (1, 2):
            _read_tensor(_message(value), found)


def _read_tensor(data: memoryview, found: Structure) -> None:
    dims, dtype, location, entries = [], 0, 0, {}
    for number, value in _fields(data):
        if number == 1:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif number == 2 and isinstance(value, int):
            dtype = value
        elif number == 13:
            entry = dict(_fields(_message(value)))
            entries[_text(entry.get(1, 0))] = _text(entry.get(2, 0))
        elif number == 14 and isinstance(value, int):
            location = value
    if dtype in FLOATS or dtype in INTEGERS:
        found.elements[(FLOATS | INTEGERS)[dtype]] += math.prod(dims)
    if location == EXTERNAL:
        found.external.add(entries.get("location", ""))


def _fields(data: memoryview) -> Iterator[Field]:
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > end:
            raise ValueError("cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:  # ten groups of seven bits hold 64
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number of more than 64 bits")


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message must stand")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode() if value else ""
