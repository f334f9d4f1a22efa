"""Rows in portions, for models that take only so many, or would need much memory for all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scanflow_serve.runtime.tensors import Tensors

PORTION = 64  # rows; bounds the activations that are held at once


def in_portions(
    run: Callable[[Tensors], Tensors], inputs: Tensors, fixed_batch: int | None = None
) -> Tensors:
    """Return what *run* answers for all rows of *inputs*, given portion by portion.

    Args:
        fixed_batch: Rows that the model insists on; the last portion is filled up with its
            last row, whose answers are dropped.
    """
    rows = len(next(iter(inputs.values())))
    size = fixed_batch or PORTION
    parts = []
    for start in range(0, rows, size):
        part = {name: array[start : start + size] for name, array in inputs.items()}
        count = min(size, rows - start)
        if fixed_batch and count < size:
            fill = np.r_[np.arange(count), np.full(size - count, count - 1)]
            part = {name: array[fill] for name, array in part.items()}
        parts.append({name: array[:count] for name, array in run(part).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
