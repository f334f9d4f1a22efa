"""The compiled rules of all inputs of a run: a fast look for most requests, a close one for few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scanflow_serve.runtime.checks import numeric_rules, text_rules
from scanflow_serve.runtime.checks.input_schema import Input
from scanflow_serve.runtime.checks.inspection import Rule
from scanflow_serve.runtime.tensors import Array, Tensors, TensorSpec

Rules: TypeAlias = "numeric_rules.NumericRules | text_rules.TextRules"


@dataclass(frozen=True, slots=True)
class Broken:
    """One rule, and where one input breaks it.

    Attributes:
        mask: Shape (rows, values) for a rule of single values, (rows,) for one of rows.
    """

    input: str
    rule: Rule
    mask: Array

    @property
    def rows(self) -> Array:
        """Return which rows break it, shape (rows,), bool."""
        rows: Array = self.mask if self.mask.ndim == 1 else np.logical_or.reduce(self.mask, axis=1)
        return rows


class RuleSet:
    """The rules of the inputs that a schema tells of.

    Args:
        specs: By input name; those that the schema does not know go unchecked.

    Raises:
        ValueError: The schema names an input that there is not, or of another dtype.
    """

    def __init__(self, inputs: Mapping[str, Input], specs: Mapping[str, TensorSpec]) -> None:
        for name, told in inputs.items():
            if name not in specs or specs[name].dtype != told.dtype:
                known = {each: spec.dtype for each, spec in specs.items()}
                raise ValueError(
                    f"schema: inputs must be among {known}, got {name!r} of {told.dtype}."
                    " Infer it anew, or correct it."
                )
        self.inputs = dict(inputs)
        self.specs = dict(specs)
        self.rules: dict[str, Rules] = {
            name: text_rules.compiled(told)
            if told.dtype == "str"
            else numeric_rules.compiled(told, _plain(specs[name].numpy_dtype))
            for name, told in inputs.items()
        }
        self._compiled = tuple(
            (name, tuple(told.shape), bool(told.image and told.image.aspect), self.rules[name])
            for name, told in inputs.items()
        )

    def hold(self, inputs: Tensors) -> bool:
        """Return whether nothing is wrong with any row."""
        for name, shape, open_sides, rules in self._compiled:
            array = inputs[name]
            if not _fits(array.shape[1:], shape) or not rules.hold(flat(array)):
                return False
            if open_sides and not self._upright(name, array):
                return False
        return True

    def look(self, inputs: Tensors) -> Iterator[Broken]:
        """Yield each rule that some row breaks."""
        for name, shape, _, rules in self._compiled:
            array = inputs[name]
            everywhere = np.ones(len(array), np.bool_)
            if not _fits(array.shape[1:], shape):
                yield Broken(name, "shape", everywhere)
                continue
            if not self._upright(name, array):
                yield Broken(name, "aspect", everywhere)
            matrix = flat(array)
            for rule, mask in (*rules.cells(matrix), *rules.rows(matrix)):
                if mask.any():
                    yield Broken(name, rule, mask)

    def broken(self, inputs: Tensors) -> Array:
        """Return which rows break a rule, shape (rows,), bool."""
        found = np.zeros(len(next(iter(inputs.values()))), np.bool_)
        for each in self.look(inputs):
            found |= each.rows
        return found

    def _upright(self, name: str, array: Array) -> bool:
        picture = self.inputs[name].image
        if picture is None or picture.aspect is None:
            return True
        low, high = picture.aspect
        ratio = aspect(array)
        return (low or 0.0) <= ratio <= (np.inf if high is None else high)


def aspect(array: Array) -> float:
    """Return width by height of images: (rows, C, H, W), (rows, H, W, C) or (rows, H, W)."""
    first = array.ndim == 4 and array.shape[1] in (1, 3, 4)
    height, width = array.shape[2:] if first else array.shape[1:3]
    return float(width) / float(height)


def flat(array: Array) -> Array:
    """Return *array* as rows of values; booleans as 0 and 1."""
    matrix = array.reshape(len(array), -1)
    return matrix.view(np.uint8) if matrix.dtype == np.bool_ else matrix


def _plain(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return shape == wanted or (
        len(shape) == len(wanted)
        and all(want is None or want == got for want, got in zip(wanted, shape, strict=True))
    )
