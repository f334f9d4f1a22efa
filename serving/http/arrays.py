"""JSON lists to arrays, held to the model's signature; every refusal names its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.tensors import Array, TensorSpec
from scanflow_serve.serving.http.cells import Cells
from scanflow_serve.serving.http.exchange import shown

MAX_RANK = 32  # numpy 1's limit
_NUMBERS = frozenset({int, float})
_BOOLEANS = frozenset({bool})
_TEXTS = frozenset({str})
_OF_KIND = {"b": _BOOLEANS, "s": _TEXTS}  # by the first letter of a dtype; else numbers


def flatten(value: Any, where: str) -> tuple[list[Any], tuple[int, ...]]:
    """Return the leaves of nested lists and the shape they had; a scalar has shape ().

    Raises:
        RequestError: 400, lists of one level differ in length, or nest too deeply.
    """
    if type(value) is not list:
        return [value], ()
    shape = [len(value)]
    level = value
    while level and type(level[0]) is list:
        # set(map(…)) runs in C: 20 ns an item, where numpy's own discovery takes 30-60.
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            raise _ragged(level, where, tuple(shape))
        if len(shape) == MAX_RANK:
            raise RequestError(400, f"{where} must nest at most {MAX_RANK} lists, got more.")
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    return level, tuple(shape)


def _ragged(level: list[Any], where: str, shape: tuple[int, ...]) -> RequestError:
    first = len(level[0])
    odd = next(i for i, x in enumerate(level) if type(x) is not list or len(x) != first)
    got = f"{len(level[odd])} items" if type(level[odd]) is list else shown(level[odd])
    place = where + index_path(odd, shape)
    return RequestError(400, f"{place} must be a list of {first} items like the first, got {got}.")


def index_path(position: int, shape: Sequence[int]) -> str:
    """Return the JSON path of the leaf at flat *position*.

    >>> index_path(5, (2, 3))
    '[1][2]'
    """
    return "".join(f"[{i}]" for i in np.unravel_index(position, shape)) if shape else ""


def array(value: Any, spec: TensorSpec, where: str, cells: Cells | None = None) -> Array:
    """Return nested JSON lists as an array of the spec's dtype, of the shape they have.

    Raises:
        RequestError: 400, ragged, or a leaf that the dtype can't hold.
    """
    flat, shape = flatten(value, where)
    if cells is not None:
        flat = readable(flat, spec, cells)
    return leaves(flat, spec.dtype, shape, where).reshape(shape)


def readable(flat: list[Any], spec: TensorSpec, cells: Cells) -> list[Any]:
    """Return *flat* as the spec's dtype can hold it; what it can't is put aside in *cells*."""
    if set(map(type, flat)) <= _OF_KIND.get(spec.dtype[0], _NUMBERS):
        return flat
    return cells.readable(flat, spec.dtype, spec.name)


def leaves(flat: list[Any], dtype: str, shape: tuple[int, ...], where: str) -> Array:
    """Return the leaves as a flat array of *dtype*.

    Args:
        shape: Of the nested lists, to name the place of a fault.

    Raises:
        RequestError: 400, a leaf that *dtype* can't hold, as the first of them says.
    """
    kinds = set(map(type, flat))
    if dtype == "str":
        _require(kinds <= _TEXTS, flat, _TEXTS, "a string", shape, where)
        return np.array(flat, dtype=object)
    if dtype == "bool":
        _require(kinds <= _BOOLEANS, flat, _BOOLEANS, "true or false", shape, where)
        return np.array(flat, dtype=np.bool_)
    _require(kinds <= _NUMBERS, flat, _NUMBERS, "a number", shape, where)
    target = np.dtype(dtype)
    if target.kind == "f":
        return _floats(flat, target, shape, where)
    if float in kinds:
        flat = _integral(flat, shape, where)
    info = np.iinfo(target)
    if flat and (min(flat) < info.min or max(flat) > info.max):
        odd = next(i for i, x in enumerate(flat) if not info.min <= x <= info.max)
        raise _bad(flat, odd, f"between {info.min} and {info.max} ({dtype})", shape, where)
    return np.array(flat, dtype=target)


def _floats(flat: list[Any], target: np.dtype[Any], shape: tuple[int, ...], where: str) -> Array:
    try:
        with np.errstate(over="raise"):
            return np.array(flat, dtype=target)
    except (FloatingPointError, OverflowError):
        most = float(np.finfo(target).max)
        odd = next((i for i, x in enumerate(flat) if abs(x) > most), 0)
        raise _bad(flat, odd, f"within ±{most:.4g} ({target.name})", shape, where) from None


def _integral(flat: list[Any], shape: tuple[int, ...], where: str) -> list[int]:
    odd = next((i for i, x in enumerate(flat) if x != math.floor(x)), None)
    if odd is not None:
        raise _bad(flat, odd, "a whole number", shape, where)
    return [int(x) for x in flat]


def _require(
    held: bool,
    flat: list[Any],
    kinds: frozenset[type],
    rule: str,
    shape: tuple[int, ...],
    where: str,
) -> None:
    if not held:
        odd = next(i for i, x in enumerate(flat) if type(x) not in kinds)
        raise _bad(flat, odd, rule, shape, where)


def _bad(flat: list[Any], odd: int, rule: str, shape: tuple[int, ...], where: str) -> RequestError:
    place = where + index_path(odd, shape)
    return RequestError(400, f"{place} must be {rule}, got {shown(flat[odd])}.")


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape as errors and OIP show it, -1 where a dimension is free.

    >>> shape_text((None, 64))
    '[-1, 64]'
    """
    return str([-1 if n is None else n for n in shape])


def fit_shape(shape: Sequence[int], spec: TensorSpec, where: str) -> None:
    """Hold a batched shape to the spec; the first dimension is the batch and may be any >= 1.

    Raises:
        RequestError: 400, another rank, no rows, or another size of a fixed dimension.
    """
    wanted = spec.shape
    if len(shape) != len(wanted) or (
        tuple(shape[1:]) != wanted[1:]
        and any(n is not None and n != m for n, m in zip(wanted[1:], shape[1:], strict=True))
    ):
        free = (None, *wanted[1:])
        raise RequestError(
            400,
            f"{where} must have shape {shape_text(free)} (-1: any size, first the batch),"
            f" got {list(shape)}.",
        )
    if shape and shape[0] < 1:
        raise RequestError(400, f"{where} must have at least one row, got shape {list(shape)}.")
