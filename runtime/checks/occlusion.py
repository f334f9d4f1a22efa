"""Which part of a row a score comes from: what changes if that part were as in normal times.

Any score of inputs can be explained so, a plug-in's too: nothing but calls to it is needed, one
for each group of values. What it can't tell: of two values that say the same, each alone changes
little.

Source:
    Zeiler & Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2;
    Covert, Lundberg & Lee (2021), "Explaining by Removing", JMLR 22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.tensors import Array, Tensors

MOST_GROUPS = 64  # of a row: bounds the work, and is what a person can look at
MOST_ROWS = 256  # of one call to a score
MOST_VALUES = 4_000_000  # of one call: 16 MB as float32
_SIDE = 8  # parts along a side of an image; their square is MOST_GROUPS
_LEAST_PATCH = 2  # pixels of a side: one alone changes nothing that a picture shows


@dataclass(frozen=True, slots=True)
class Group:
    """Values of a row that are replaced together.

    Attributes:
        name: For people: a column, ``[3]``, or ``[0:4, 4:8]`` of rows and columns of pixels.
        at: Positions in a row's values, shape (values,), int64.
    """

    name: str
    input: str
    at: Array


def explain(
    score: Callable[[Tensors], Array], row: Tensors, background: Tensors, groups: Sequence[Group]
) -> Array:
    """Return how much of the score of *row* is due to each group, shape (groups,), float64.

    The score of the row, less its mean score with the group's values taken from *background*:
    positive where these values raise it.

    Args:
        score: Of rows, shape (rows,).
        row: By input, of shape (1, …).
        background: By input, of shape (rows, …): a row of medians, or some rows of normal times.
    """
    whole = float(np.asarray(score(row), np.float64)[0])
    others = len(next(iter(background.values())))
    size = sum(array.size for array in row.values())
    step = max(1, min(MOST_ROWS, MOST_VALUES // size) // others)
    parts = [
        _scores(score, row, background, groups[at : at + step])
        for at in range(0, len(groups), step)
    ]
    replaced = np.concatenate(parts) if parts else np.empty((0, others))
    attribution: Array = whole - replaced.mean(axis=1)
    return attribution


def _scores(
    score: Callable[[Tensors], Array], row: Tensors, background: Tensors, groups: Sequence[Group]
) -> Array:
    """Return the scores with each group replaced, shape (groups, background rows)."""
    others = len(next(iter(background.values())))
    many = {
        name: np.repeat(array, len(groups) * others, axis=0).reshape(len(groups), others, -1)
        for name, array in row.items()
    }
    for number, group in enumerate(groups):
        normal = background[group.input].reshape(others, -1)
        many[group.input][number][:, group.at] = normal[:, group.at]
    rows = {
        name: many[name].reshape(len(groups) * others, *array.shape[1:])
        for name, array in row.items()
    }
    return np.asarray(score(rows), np.float64).reshape(len(groups), others)


def typical_row(inputs: Tensors) -> Tensors:
    """Return the median of each value over the rows, the most frequent text, shape (1, …)."""
    return {name: _typical(array) for name, array in inputs.items()}


def _typical(array: Array) -> Array:
    if array.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):
            middle = np.nan_to_num(np.nanmedian(_some(array), axis=0, keepdims=True))
        return (np.rint(middle) if array.dtype.kind != "f" else middle).astype(array.dtype)
    flat = array.reshape(len(array), -1)
    frequent = [_most_frequent(flat[:, at]) for at in range(flat.shape[1])]
    return np.array(frequent, dtype=object).reshape(1, *array.shape[1:])


def _some(array: Array) -> Array:
    """Return the rows, a column that has no number as zeros."""
    empty = np.isnan(array).all(axis=0) if array.dtype.kind == "f" else np.False_
    return np.where(empty, 0, array)


def _most_frequent(texts: Array) -> str:
    values, counts = np.unique(texts.astype(str), return_counts=True)
    return str(values[counts.argmax()])


def row_groups(
    row: Tensors, images: Mapping[str, ImageShape], columns: Mapping[str, Sequence[str]]
) -> tuple[Group, ...]:
    """Return the groups of *row*, at most `MOST_GROUPS` of an input.

    Images and series fall into patches; other values stand alone, or with their neighbours where
    there are too many.

    Args:
        row: By input, of shape (1, …).
        images: Which inputs are images.
        columns: Names of an input's values, where they have any.
    """
    found: list[Group] = []
    for name, array in row.items():
        shape = array.shape[1:]
        if name in images:
            found += _patches(name, _image_grid(images[name], shape), _LEAST_PATCH)
        elif len(shape) == 2 and min(shape) > 1:
            found += _patches(name, np.arange(array.size).reshape(*shape, 1), 1)
        else:
            found += _runs(name, array.size, columns.get(name, ()))
    return tuple(found)


def _image_grid(image: ImageShape, shape: tuple[int, ...]) -> Array:
    """Return the position of each value, shape (height, width, channels)."""
    height, width = image.size(shape)
    places = np.arange(int(np.prod(shape)))
    if image.layout == "NCHW":
        return places.reshape(-1, height, width).transpose(1, 2, 0)
    return places.reshape(height, width, -1)


def image_edges(image: ImageShape, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Return where the patches of an image begin and end, in rows and in columns of pixels.

    `row_groups` has its patches row by row, from left to right.

    Args:
        shape: Of one row of the input.
    """
    height, width = image.size(shape)
    return _edges(height, _LEAST_PATCH), _edges(width, _LEAST_PATCH)


def _edges(side: int, least: int) -> list[int]:
    parts = np.array_split(np.arange(side), min(_SIDE, max(1, side // least)))
    return [int(part[0]) for part in parts] + [side]


def _patches(name: str, places: Array, least: int) -> list[Group]:
    down, across = (_edges(side, least) for side in places.shape[:2])
    return [
        Group(
            f"[{top}:{bottom}, {left}:{right}]",
            name,
            places[top:bottom, left:right].reshape(-1),
        )
        for top, bottom in pairwise(down)
        for left, right in pairwise(across)
    ]


def _runs(name: str, size: int, names: Sequence[str]) -> list[Group]:
    runs = np.array_split(np.arange(size), min(size, MOST_GROUPS))
    return [Group(_run_name(run, size, names), name, run) for run in runs]


def _run_name(run: Array, size: int, names: Sequence[str]) -> str:
    first, last = int(run[0]), int(run[-1])
    if len(names) == size:
        return names[first] if first == last else f"{names[first]} to {names[last]}"
    if size == 1:
        return ""
    return f"[{first}]" if first == last else f"[{first}:{last + 1}]"
