"""Tensors of the Open Inference Protocol v2: datatypes, JSON data, binary data.

Source:
    https://github.com/kserve/open-inference-protocol, and Triton's binary tensor data extension:
    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.tensors import Array, TensorSpec
from scanflow_serve.serving.http.arrays import fit_shape, flatten, leaves, readable
from scanflow_serve.serving.http.cells import Cells
from scanflow_serve.serving.http.exchange import shown

DATATYPES: dict[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "str": "BYTES",
}
# dtype.name costs 5 µs, a dtype's hash 0.1.
_OF_DTYPE = {np.dtype(name): datatype for name, datatype in DATATYPES.items() if name != "str"}
MOST_ELEMENTS = 2**31  # of one tensor; far above any body, below any overflow


def datatype(spec: TensorSpec) -> str:
    """Return OIP's name of the spec's dtype."""
    return DATATYPES[spec.dtype]


def datatype_of(array: Array) -> str:
    """Return OIP's name of an output's dtype; text and objects are BYTES."""
    return _OF_DTYPE.get(array.dtype, "BYTES")


def checked_shape(value: Any, spec: TensorSpec, where: str) -> tuple[int, ...]:
    """Return the declared shape, held to the spec.

    Raises:
        RequestError: 400, not a list of integers >= 0, another rank, no rows, or another size.
    """
    if type(value) is not list or not all(type(n) is int and n >= 0 for n in value):
        raise RequestError(
            400, f"{where}.shape must be a list of integers >= 0, got {shown(value)}."
        )
    fit_shape(value, spec, f"{where}.shape")
    if math.prod(value) > MOST_ELEMENTS:
        raise RequestError(
            400, f"{where}.shape must hold <= {MOST_ELEMENTS} elements, got {shown(value)}."
        )
    return tuple(value)


def from_json(
    data: Any, spec: TensorSpec, shape: tuple[int, ...], where: str, cells: Cells | None = None
) -> Array:
    """Return JSON ``data``, flat or nested, as an array of the declared shape.

    Args:
        cells: Takes what is no value of its dtype; without it that is refused.

    Raises:
        RequestError: 400, not a list, FP16, a leaf of the wrong type, or another number of them.
    """
    place = f"{where}.data"
    if type(data) is not list:
        raise RequestError(400, f"{place} must be a list, got {shown(data)}.")
    if spec.dtype == "float16":
        raise RequestError(
            400, f"{where}: FP16 must be sent as binary data, got JSON. Set binary_data_size."
        )
    flat, nested = flatten(data, place)
    if len(flat) != math.prod(shape):
        raise RequestError(
            400,
            f"{place} must have {math.prod(shape)} elements, as shape {list(shape)} says,"
            f" got {len(flat)}.",
        )
    if cells is not None:
        flat = readable(flat, spec, cells)
    return leaves(flat, spec.dtype, nested, place).reshape(shape)


def from_binary(data: memoryview, spec: TensorSpec, shape: tuple[int, ...], where: str) -> Array:
    """Return the bytes of one tensor as an array of its own.

    Raises:
        RequestError: 400, not as many bytes as the shape needs, or malformed BYTES.
    """
    if spec.dtype == "str":
        return _texts(data, math.prod(shape), where).reshape(shape)
    dtype = spec.numpy_dtype.newbyteorder("<")
    needed = math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        raise RequestError(
            400,
            f"{where}.parameters.binary_data_size must be {needed} for shape {list(shape)} of"
            f" {datatype(spec)}, got {len(data)}.",
        )
    if spec.dtype == "bool":  # any byte but 0 is true; numpy's own bools may only be 0 and 1
        truths: Array = np.frombuffer(data, dtype=np.uint8) != 0
        return truths.reshape(shape)
    # A copy: the body's bytes are read-only, and aligned only by luck behind a JSON header.
    return np.frombuffer(data, dtype=dtype).astype(spec.numpy_dtype).reshape(shape)


def _texts(data: memoryview, count: int, where: str) -> Array:
    """Return BYTES elements: each a little-endian uint32 length, then so many bytes of UTF-8."""
    texts: list[str] = []
    at = 0
    while at < len(data):
        end = at + 4
        length = struct.unpack_from("<I", data, at)[0] if end <= len(data) else 0
        if end > len(data) or end + length > len(data):
            raise RequestError(
                400, f"{where}: BYTES element {len(texts)} must end within the data, got a cut."
            )
        texts.append(_text(bytes(data[end : end + length]), len(texts), where))
        at = end + length
    if len(texts) != count:
        raise RequestError(
            400, f"{where} must have {count} BYTES elements, as its shape says, got {len(texts)}."
        )
    return np.array(texts, dtype=object)


def _text(raw: bytes, index: int, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RequestError(
            400, f"{where}: BYTES element {index} must be UTF-8, got {shown(raw)}."
        ) from None


def to_binary(array: Array) -> bytes:
    """Return the bytes of one output, row-major, little-endian."""
    if datatype_of(array) == "BYTES":
        encoded = [str(item).encode() for item in array.ravel().tolist()]
        return b"".join(struct.pack("<I", len(item)) + item for item in encoded)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def to_json(array: Array) -> Any:
    """Return one output's elements as a flat list or array that orjson writes."""
    if datatype_of(array) == "BYTES":
        return [str(item) for item in array.ravel().tolist()]
    return np.ascontiguousarray(array).reshape(-1)
