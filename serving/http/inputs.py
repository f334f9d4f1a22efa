"""Inputs by name, batched: what `/predict` and `/invocations` have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.inspection import Finding, Unread
from scanflow_serve.runtime.requests import Prefer
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec
from scanflow_serve.serving.http.arrays import array, fit_shape
from scanflow_serve.serving.http.cells import Cells
from scanflow_serve.serving.http.exchange import Exchange, shown
from scanflow_serve.serving.http.guard import path_in

LONGEST_SESSION = 128  # characters


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked inputs.

    Attributes:
        batched: False if the client left out the batch dimension; the reply does too.
        where: Of the inputs in the body.
        unread: Cells that are no values; the inputs have placeholders there.
    """

    inputs: Tensors
    rows: int
    batched: bool = True
    where: str = "inputs"
    unread: Sequence[Unread] = ()

    def place(self, finding: Finding) -> str:
        """Return the JSON path of a finding's value."""
        named = len(self.inputs) > 1
        return path_in(self.where, batched=self.batched, named=named)(finding)


def only_input(signature: Signature, where: str) -> TensorSpec:
    """Return the one input.

    Raises:
        RequestError: 400, the model has several: they must be given by name.
    """
    if len(signature.inputs) != 1:
        names = [spec.name for spec in signature.inputs]
        raise RequestError(
            400, f"{where} must be an object with the inputs {names}, got a single value."
        )
    return signature.inputs[0]


def unknown_names(given: Any, known: list[str], where: str) -> RequestError:
    """Return the refusal of *given*, whose names are not exactly the *known* ones."""
    return RequestError(400, f"{where} must have exactly the names {known}, got {shown([*given])}.")


def batch_of_json(
    value: Any,
    signature: Signature,
    max_rows: int,
    where: str = "inputs",
    cells: Cells | None = None,
) -> Batch:
    """Return the batch of a JSON value: an array for the only input, or name -> array.

    Args:
        cells: Takes what is no value of its dtype; without it that is refused.

    Raises:
        RequestError: 400, names, dtypes or shapes that don't fit; 413, too many rows.
    """
    if isinstance(value, dict):
        known = [spec.name for spec in signature.inputs]
        if value.keys() != set(known):
            raise unknown_names(value, known, where)
        arrays = {
            spec.name: array(value[spec.name], spec, f"{where}.{spec.name}", cells)
            for spec in signature.inputs
        }
    else:
        spec = only_input(signature, where)
        arrays = {spec.name: array(value, spec, where, cells)}
    return batch(arrays, signature, max_rows, where, cells)


def batch(
    arrays: Mapping[str, Array],
    signature: Signature,
    max_rows: int,
    where: str,
    cells: Cells | None = None,
) -> Batch:
    """Return the batch of arrays; where every one lacks the batch dimension, of one row.

    Raises:
        RequestError: 400, shapes that don't fit or rows that disagree; 413, too many rows.
    """
    single = all(arrays[spec.name].ndim == len(spec.shape) - 1 for spec in signature.inputs)
    inputs: Tensors = {}
    rows = -1
    for spec in signature.inputs:
        value = arrays[spec.name][None] if single else arrays[spec.name]
        place = where if len(signature.inputs) == 1 else f"{where}.{spec.name}"
        fit_shape(value.shape, spec, place)
        if rows >= 0 and value.shape[0] != rows:
            raise RequestError(
                400, f"{place} must have {rows} rows like the others, got {value.shape[0]}."
            )
        rows = value.shape[0]
        inputs[spec.name] = value
    bound_rows(rows, max_rows, where)
    unread = () if cells is None else cells.unread
    return Batch(inputs, rows, batched=not single, where=where, unread=unread)


def bound_rows(rows: int, most: int, where: str) -> None:
    """Hold a request to its bound of rows.

    Raises:
        RequestError: 413, it has more.
    """
    if rows > most:
        raise RequestError(
            413,
            f"{where} must have <= {most} rows, got {rows}. Send several requests, or raise"
            " serve.limits.max_rows in the policy.",
        )


def deadline_ms(exchange: Exchange) -> float | None:
    """Return the budget that ``Scanflow-Deadline-Ms`` gives, None if it is not given.

    Raises:
        RequestError: 400, not a number of milliseconds > 0.
    """
    text = exchange.header(b"scanflow-deadline-ms")
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise RequestError(
            400, f"Scanflow-Deadline-Ms must be a number > 0, got {shown(text)}. Give milliseconds."
        )
    return value


def prefer(exchange: Exchange) -> Prefer | None:
    """Return what ``Scanflow-Prefer`` asks for, None if it is not given.

    Raises:
        RequestError: 400, neither latency nor accuracy.
    """
    text = exchange.header(b"scanflow-prefer")
    if text is None:
        return None
    if text == "latency":
        return "latency"
    if text == "accuracy":
        return "accuracy"
    raise RequestError(400, f"Scanflow-Prefer must be latency or accuracy, got {shown(text)}.")


def session(exchange: Exchange) -> str:
    """Return what ``Scanflow-Session`` says the rows belong to, "" if it is not given.

    Raises:
        RequestError: 400, it is too long.
    """
    text = exchange.header(b"scanflow-session")
    if text is None:
        return ""
    if len(text) > LONGEST_SESSION:
        raise RequestError(
            400,
            f"Scanflow-Session must be at most {LONGEST_SESSION} characters, got {len(text)}.",
        )
    return text
