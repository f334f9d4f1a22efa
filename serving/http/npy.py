"""``application/x-npy`` bodies: numpy's own format, without pickles and without trust."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.tensors import Array, TensorSpec
from scanflow_serve.serving.http.exchange import shown


def npy_array(body: bytes, spec: TensorSpec) -> Array:
    """Return the array of a ``.npy`` body, cast to the spec's dtype.

    Nothing may be lost by the cast but the precision of floats.

    Raises:
        RequestError: 400, not a .npy file, holds objects, is cut, or doesn't cast.
    """
    stream = io.BytesIO(body)
    try:
        major, _ = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if major == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(stream)
    except Exception as error:  # whatever the header's literal evaluator makes of garbage
        raise RequestError(400, f"body must be a .npy file: {shown(str(error))}.") from None
    if dtype.hasobject or dtype.kind not in "biufU":
        raise RequestError(
            400, f"body must hold numbers, booleans or text, got dtype {shown(str(dtype))}."
        )
    # Checked before anything is allocated: the header may claim any shape.
    data = memoryview(body)[stream.tell() :]
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise RequestError(
            400, f"body must hold shape {list(shape)} of {dtype}, got {len(data)} bytes of data."
        )
    order: Any = "F" if fortran else "C"
    count = math.prod(shape)
    array: Array = np.frombuffer(data, dtype=dtype, count=count) if data else np.empty(0, dtype)
    return _cast(array.reshape(shape, order=order), spec)


def _cast(array: Array, spec: TensorSpec) -> Array:
    target = spec.numpy_dtype
    refusal = RequestError(
        400, f"body must be {spec.dtype} or cast to it safely, got {array.dtype.name}."
    )
    if spec.dtype == "str":
        if array.dtype.kind != "U":
            raise refusal
        return array.astype(object)
    if array.dtype.kind == "U" or not np.can_cast(array.dtype, target, "same_kind"):
        raise refusal
    if target.kind in "iu" and array.size and not np.can_cast(array.dtype, target, "safe"):
        info = np.iinfo(target)
        if int(array.min()) < info.min or int(array.max()) > info.max:
            raise refusal
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array.astype(target))
    except FloatingPointError:
        raise refusal from None
