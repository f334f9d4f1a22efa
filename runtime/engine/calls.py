"""One call for several requests: their rows side by side, and the outputs taken apart again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from scanflow_serve.policies.errors import InputError
from scanflow_serve.runtime.tensors import Array, Tensors
from scanflow_serve.runtime.workflow.slots import Step

# What became of one request: its outputs, or why its own inputs can't be right.
Outcome: TypeAlias = Tensors | InputError

FEW = 64  # numbers that Python adds up more quickly than numpy begins to


def run_together(run: Step, asked: Sequence[Tensors], rows: int, max_batch: int) -> list[Outcome]:
    """Return the outcome of each of *asked*, inputs of shape (rows, …) by name, in order.

    In one call where their rows can lie side by side, else one by one: rows of another length
    (free dimensions), or outputs that are not a row each.

    Args:
        rows: Of all together.
        max_batch: Rows of one call.

    Raises:
        ScanflowError: The call failed, and it is not known whose inputs are to blame.
    """
    if len(asked) == 1:
        try:
            inputs = asked[0]
            return [run(inputs) if rows <= max_batch else run_in_parts(run, inputs, max_batch)]
        except InputError as error:
            return [error]
    if _stackable(asked):
        counts = [_rows(inputs) for inputs in asked]
        together = {name: np.concatenate([each[name] for each in asked]) for name in asked[0]}
        try:
            outputs = run_in_parts(run, together, max_batch)
        except InputError:  # of one of them; the others are not to suffer
            return [_alone(run, inputs, max_batch) for inputs in asked]
        if all(array.ndim and len(array) == rows for array in outputs.values()):
            return [*_apart(outputs, counts)]
    return [_alone(run, inputs, max_batch) for inputs in asked]


def run_in_parts(run: Step, inputs: Tensors, max_batch: int) -> Tensors:
    """Return the outputs for *inputs*, in calls of at most *max_batch* rows."""
    rows = _rows(inputs)
    if rows <= max_batch:
        return run(inputs)
    parts = [
        run({name: array[at : at + max_batch] for name, array in inputs.items()})
        for at in range(0, rows, max_batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def holds_nan(outputs: Tensors, floats: Iterable[str]) -> bool:
    """Return whether one of the outputs *floats* holds NaN."""
    for name in floats:
        array = outputs[name]
        size = array.size
        if size <= FEW:
            # A third of what a reduction costs. Infinities may add up to NaN: then look closely.
            total = sum(array.ravel().tolist())
            if total == total:
                continue
        if size:
            least = np.minimum.reduce(array, axis=None)  # NaN wherever there is one
            if least != least:
                return True
    return False


def spoiled(asked: Sequence[Tensors], outcomes: Sequence[Outcome], floats: Sequence[str]) -> bool:
    """Return whether some outputs hold NaN although the request's own inputs hold none."""
    for inputs, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, InputError) or not holds_nan(outcome, floats):
            continue
        if not holds_nan(inputs, [name for name, each in inputs.items() if each.dtype.kind == "f"]):
            return True
    return False


def _alone(run: Step, inputs: Tensors, max_batch: int) -> Outcome:
    try:
        return run_in_parts(run, inputs, max_batch)
    except InputError as error:
        return error


def _stackable(asked: Sequence[Tensors]) -> bool:
    first = asked[0]
    return all(
        each.keys() == first.keys()
        and all(_alike(array, first[name]) for name, array in each.items())
        for each in asked[1:]
    )


def _alike(one: Array, other: Array) -> bool:
    same_dtype = one.dtype == other.dtype or one.dtype.kind == other.dtype.kind == "U"
    return same_dtype and one.shape[1:] == other.shape[1:]


def _rows(inputs: Tensors) -> int:
    return len(next(iter(inputs.values())))


def _apart(outputs: Tensors, rows: Sequence[int]) -> Iterable[Tensors]:
    start = 0
    for count in rows:
        yield {name: array[start : start + count] for name, array in outputs.items()}
        start += count
