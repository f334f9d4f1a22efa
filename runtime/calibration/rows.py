"""The rows that candidates are measured on: validation data, else generated ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec

OPEN_DIMENSION = 16  # where a model leaves a dimension open that is not the batch
SEED = 0


def generate(signature: Signature, rows: int) -> Tensors:
    """Return *rows* rows that fit *signature*, the same ones every time.

    Floats lie in [0, 1), integers in [0, 10), so that they also are valid indices of most tables.
    """
    random = np.random.default_rng(SEED)
    return {spec.name: _random(spec, rows, random) for spec in signature.inputs}


def repeat(inputs: Mapping[str, Array], rows: int) -> Tensors:
    """Return the first *rows* rows of *inputs*, over again where there are fewer."""
    return {
        name: np.ascontiguousarray(np.take(array, np.arange(rows) % len(array), axis=0))
        for name, array in inputs.items()
    }


def _random(spec: TensorSpec, rows: int, random: np.random.Generator) -> Array:
    shape = (rows, *(OPEN_DIMENSION if n is None else n for n in spec.shape[1:]))
    if spec.dtype == "str":
        return np.array(["text"] * math.prod(shape), dtype=object).reshape(shape)
    if spec.dtype == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    if spec.dtype.startswith("float"):
        return random.random(shape).astype(spec.numpy_dtype)
    return random.integers(0, 10, shape).astype(spec.numpy_dtype)
