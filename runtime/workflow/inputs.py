"""Inputs held to a signature: a request's strictly; validation rows are fitted to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scanflow_serve.policies.errors import InputError, WorkflowError
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec
from scanflow_serve.runtime.validation import Rows


def check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> int:
    """Return the number of rows of *inputs*, which fit *signature* exactly; nothing is cast.

    Raises:
        InputError: An input is missing or unknown, has another dtype or shape, has no row, or
            inputs differ in rows; says which, what was wanted and what came.
    """
    rows = None
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None or len(inputs) != len(signature.inputs):
            raise _wrong_names(signature, inputs)
        if array.dtype != spec.numpy_dtype and not (
            spec.dtype == "str" and array.dtype.kind == "U"
        ):
            raise InputError(
                f"input {spec.name!r}: dtype must be {spec.dtype}, got {array.dtype.name}. "
                f"Send {spec.dtype}."
            )
        if not shape_fits(spec.shape, array.shape) or not array.shape[0]:
            raise InputError(
                f"input {spec.name!r}: shape must be {shape_text(spec.shape)} with at least one "
                f"row, got {list(array.shape)}. Send rows of that shape."
            )
        if rows is not None and array.shape[0] != rows:
            raise InputError(
                f"input {spec.name!r}: all inputs must have the same number of rows, got "
                f"{array.shape[0]} after {rows}. Send one row of each input per prediction."
            )
        rows = array.shape[0]
    return rows or 0


def shape_fits(wanted: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Return whether *shape* has the rank and the fixed sizes of *wanted*; () takes any rank."""
    if not wanted:
        return bool(shape)
    if len(wanted) != len(shape):
        return False
    return all(size is None or size == got for size, got in zip(wanted, shape, strict=True))


def shape_text(shape: Sequence[int | None]) -> str:
    """Return *shape* as people read it.

    >>> shape_text((None, 64))
    '[rows, 64]'
    """
    head = ["rows" if size is None else str(size) for size in shape[:1]]
    return f"[{', '.join([*head, *('any' if n is None else str(n) for n in shape[1:])])}]"


def arrange(names: Sequence[str], rows: Rows) -> Tensors:
    """Return the arrays of *rows* under the public input *names*.

    By name; else in order, where there are as many arrays as inputs; else columns, shape
    (rows,) each, side by side as the only input.

    Raises:
        WorkflowError: None of these applies.
    """
    given = rows.inputs
    if all(name in given for name in names):
        return {name: given[name] for name in names}
    if len(given) == len(names):
        return dict(zip(names, given.values(), strict=True))
    if len(names) == 1 and all(array.ndim == 1 for array in given.values()):
        return {names[0]: np.stack(list(given.values()), axis=1)}
    raise WorkflowError(
        f"validation data: its arrays must match the run's inputs {list(names)} by name or in "
        f"order, got {list(given)}. List the arrays under `input:`, in the order of the inputs."
    )


def fit(spec: TensorSpec, array: Array) -> Array:
    """Return *array* in the dtype of *spec*, and as a column where that is what *spec* wants.

    Raises:
        WorkflowError: The dtype can't be cast within its kind, or the shape does not fit.
    """
    if array.ndim == 1 and len(spec.shape) == 2 and spec.shape[1] in (1, None):
        array = array[:, np.newaxis]
    if not np.can_cast(array.dtype, spec.numpy_dtype, "same_kind") or not shape_fits(
        spec.shape, array.shape
    ):
        raise WorkflowError(
            f"validation data: must fit the input {spec.name!r}, {spec.dtype} of shape "
            f"{shape_text(spec.shape)}, got {array.dtype.name} of shape {list(array.shape)}. "
            f"Name the right array under `input:`."
        )
    return array.astype(spec.numpy_dtype, copy=False)


def _wrong_names(signature: Signature, inputs: Mapping[str, Array]) -> InputError:
    wanted = [spec.name for spec in signature.inputs]
    return InputError(
        f"inputs: must be exactly {wanted}, got {list(inputs)}. Send one tensor under each name."
    )
