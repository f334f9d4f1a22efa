"""A schema from reference rows, tried on rows that it has not seen.

The ends of a sample say little about what comes next: of *n* clean rows with *d* features, the next
one lies outside in some feature with probability up to 2d/(n+1), 20 % for 64 features and 600 rows.
So ranges are widened by the smallest margin of `MARGINS` at which rows that were held back hold to
the schema inferred from the others; the figure is kept in the schema, for people.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.images import ImageShape, image_shape
from scanflow_serve.runtime.checks.input_rules import RuleSet
from scanflow_serve.runtime.checks.input_schema import (
    Bounds,
    Column,
    Format,
    Input,
    Level,
    Picture,
    Schema,
    Tried,
)
from scanflow_serve.runtime.checks.margins import upper_bound, widened
from scanflow_serve.runtime.checks.numeric_rules import light
from scanflow_serve.runtime.checks.repeats import fingerprints
from scanflow_serve.runtime.checks.text_rules import FORMATS
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec

MARGINS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # of a range's width, on either side
TOLERATED = 0.001  # share of clean rows that may break a schema inferred without them
FEWEST = 20  # rows
MOST_COLUMNS = 512  # values of a row that are told apart
MOST_TRIED = 5000  # rows of the reference that are held back in turn
MOST_LEVELS = 1000
SELDOM = 0.01  # Good-Turing: share of rows whose level would be new; above it a set is not closed
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Told:
    """What a person says of the inputs; it holds whatever the reference shows.

    Attributes:
        range: By input or column: lowest and highest, None for no bound. No margin is added.
        levels: By input or column.
        margin: Instead of the smallest that clean rows hold to; as a share of a range's width.
        columns: By input: names of a row's values, in order.
        images: By input.
    """

    range: Mapping[str, Bounds] = field(default_factory=dict)
    levels: Mapping[str, list[Level]] = field(default_factory=dict)
    margin: float | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images: Mapping[str, ImageShape] = field(default_factory=dict)


NOTHING = Told()


def infer(
    inputs: Tensors,
    signature: Signature,
    told: Told = NOTHING,
    *,
    source: str = "",
    digest: str = "",
    seed: int = 0,
) -> Schema:
    """Return the schema of *inputs*, each of shape (rows, …), as *signature* names them.

    Raises:
        ValueError: There are fewer than `FEWEST` rows.
    """
    rows = len(next(iter(inputs.values())))
    if rows < FEWEST:
        raise ValueError(
            f"schema: needs at least {FEWEST} rows of reference data, got {rows}. Give more rows,"
            " or write the schema by hand."
        )
    specs = {spec.name: spec for spec in signature.inputs}
    random = np.random.default_rng(seed)
    tried = random.permutation(rows)[:MOST_TRIED]
    folds = np.array_split(tried, FOLDS)
    for margin in MARGINS if told.margin is None else (told.margin,):
        broken = sum(_broken(inputs, specs, told, margin, fold) for fold in folds)
        if broken <= TOLERATED * len(tried):
            break
    prints = fingerprints(inputs, rows)
    return Schema(
        source=source,
        digest=digest,
        rows=rows,
        margin=margin,
        duplicates=len(set(prints)) < rows,
        tried=Tried(rows=len(tried), broken=broken, at_most=upper_bound(broken, len(tried))),
        inputs=_inputs(inputs, specs, told, margin),
    )


def of_signature(signature: Signature, told: Told = NOTHING) -> Schema:
    """Return what holds without any reference: dtypes, shapes, and what people tell."""
    inputs = {}
    for spec in signature.inputs:
        names = told.columns.get(spec.name) or _told_names(spec, told)
        columns = [
            Column(
                name=name,
                range=_told(told.range, name, spec.name),
                levels=_told(told.levels, name, spec.name),
            )
            for name in names
        ]
        inputs[spec.name] = Input(
            dtype=spec.dtype,
            shape=list(spec.shape[1:]),
            range=told.range.get(spec.name),
            columns=columns,
        )
    return Schema(inputs=inputs)


def _broken(
    inputs: Tensors, specs: Mapping[str, TensorSpec], told: Told, margin: float, fold: Array
) -> int:
    """Return how many rows of *fold* break the schema of all other rows."""
    others = np.ones(len(next(iter(inputs.values()))), np.bool_)
    others[fold] = False
    schema = _inputs({name: a[others] for name, a in inputs.items()}, specs, told, margin)
    rules = RuleSet(schema, specs)
    return int(rules.broken({name: array[fold] for name, array in inputs.items()}).sum())


def _inputs(
    inputs: Tensors, specs: Mapping[str, TensorSpec], told: Told, margin: float
) -> dict[str, Input]:
    return {
        name: _of_text(specs[name], array, told)
        if specs[name].dtype == "str"
        else _of_numbers(specs[name], array, told, margin)
        for name, array in inputs.items()
    }


def _of_numbers(spec: TensorSpec, array: Array, told: Told, margin: float) -> Input:
    flat = array.reshape(len(array), -1).astype(np.float64)
    flat[np.isinf(flat)] = np.nan
    names = _names(spec, flat.shape[1], told)
    picture = image_shape(spec, told.images.get(spec.name))
    named = spec.name in told.columns or bool(_told_names(spec, told)) or flat.shape[1] == 1
    shared = bool(picture) or not names or (not named and _of_one_unit(flat))
    whole = told.range.get(spec.name) or (widened(flat, margin) if shared else None)
    constant = np.ptp(flat, axis=1) == 0 if flat.shape[1] > 1 else np.ones(1, np.bool_)
    columns = [
        _column(name, flat[:, at], spec, told, None if shared else margin)
        for at, name in enumerate(names)
    ]
    return Input(
        dtype=spec.dtype,
        shape=list(spec.shape[1:]),
        range=whole,
        nulls=float(np.isnan(flat).mean()),
        typical=_median(flat),
        constant_rows=bool(constant.any()),
        columns=columns,
        image=None if picture is None else _picture(flat, array, picture, margin),
    )


def _column(name: str, values: Array, spec: TensorSpec, told: Told, margin: float | None) -> Column:
    levels = _told(told.levels, name, spec.name)
    bounds = told.range.get(name)
    if levels is None and spec.numpy_dtype.kind in "iu" and margin is not None:
        levels = closed_levels([int(value) for value in values.tolist()])
    if bounds is None and levels is None and margin is not None and spec.name not in told.range:
        bounds = widened(values, margin)
    present = values[~np.isnan(values)]
    typical: Level | float | None = _median(values)
    if levels is not None and len(present):
        typical = Counter(present.tolist()).most_common(1)[0][0]
    return Column(
        name=name,
        range=bounds,
        levels=levels,
        nulls=float(np.isnan(values).mean()),
        typical=typical,
        constant=len(present) > 0 and bool((present == present[0]).all()),
    )


def _of_text(spec: TensorSpec, array: Array, told: Told) -> Input:
    flat = array.reshape(len(array), -1)
    columns = []
    for at, name in enumerate(_names(spec, flat.shape[1], told)):
        texts = ["" if text is None else str(text) for text in flat[:, at].tolist()]
        present = [text for text in texts if text]
        levels = _told(told.levels, name, spec.name) or closed_levels(present)
        columns.append(
            Column(
                name=name,
                levels=levels,
                format=_form(present) if levels is None else None,
                nulls=1 - len(present) / len(texts),
                typical=Counter(present).most_common(1)[0][0] if present else None,
                constant=len(set(texts)) == 1,
            )
        )
    return Input(dtype="str", shape=list(spec.shape[1:]), columns=columns)


def closed_levels(values: list[Any]) -> list[Level] | None:
    """Return the categories of *values*, None where they are not a closed set.

    Source:
        Good (1953): the share of rows whose level would be new is about that of levels seen once.
    """
    counts = Counter(values)
    once = sum(1 for count in counts.values() if count == 1)
    if not counts or len(counts) > min(MOST_LEVELS, len(values) // 10):
        return None
    return sorted(counts) if once <= SELDOM * len(values) else None


def _form(texts: list[str]) -> Format | None:
    forms = (name for name, form in FORMATS.items() if all(form.fullmatch(t) for t in texts))
    return next(forms, None) if texts else None


def _names(spec: TensorSpec, width: int, told: Told) -> tuple[str, ...]:
    """Return what a row's values are called; nothing where they are not told apart."""
    given = told.columns.get(spec.name) or _told_names(spec, told)
    if given:
        return given
    if width == 1:
        return (spec.name,)
    return tuple(map(str, range(width))) if len(spec.shape) == 2 and width <= MOST_COLUMNS else ()


def _told_names(spec: TensorSpec, told: Told) -> tuple[str, ...]:
    """Return the name of a single column that a person tells something of."""
    single = math.prod(n or 0 for n in spec.shape[1:]) == 1
    return (spec.name,) if single and spec.name in {*told.range, *told.levels} else ()


def _told(given: Mapping[str, Any], *names: str) -> Any:
    return next((given[name] for name in names if name in given), None)


def _of_one_unit(flat: Array) -> bool:
    """Return whether columns share a scale, as pixels do: then a range is that of all."""
    if np.isnan(flat).all():
        return True
    low, high = np.nanmin(flat), np.nanmax(flat)
    with np.errstate(invalid="ignore"):
        present = flat[:, ~np.isnan(flat).all(axis=0)]
        widths = np.nanmax(present, axis=0) - np.nanmin(present, axis=0)
    varied = widths[widths > 0]
    return bool(len(varied)) and bool(np.median(varied) >= 0.25 * (high - low))


def _median(values: Array) -> float | None:
    present = values[~np.isnan(values)]
    return float(np.median(present)) if present.size else None


def _picture(flat: Array, array: Array, shape: ImageShape, margin: float) -> Picture:
    mean, deviation = light(np.nan_to_num(flat))
    aspect: Bounds | None = None
    if shape.height is None or shape.width is None:
        height, width = shape.size(array.shape[1:])
        aspect = [0.5 * width / height, 2.0 * width / height]
    brightness = widened(mean, margin)
    contrast = widened(deviation, margin)
    assert brightness is not None
    assert contrast is not None
    # Below half of the least seen, an image is blank whatever the margin.
    contrast = [max(contrast[0] or 0.0, 0.5 * float(deviation.min())), contrast[1]]
    return Picture(brightness=brightness, contrast=contrast, aspect=aspect)
