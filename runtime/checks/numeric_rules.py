"""The rules of an input of numbers, compiled so that a clean row costs a few microseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.input_schema import Bounds, Input, Picture
from scanflow_serve.runtime.checks.inspection import Rule
from scanflow_serve.runtime.tensors import Array


@dataclass(frozen=True, slots=True)
class NumericRules:
    """What every row of one input of numbers must hold to.

    Arrays are of shape (values of a row,), or of one element where all values share it.

    Attributes:
        low: Lowest that may come, in the input's dtype.
        nulls: Whether NaN may come.
        typical: What a repair puts in; NaN: it has nothing to put in.
        levels: Position in a row -> the values that there may be.
        constant_rows: Whether a row of one repeated value may come.
        shared: The range, where there is nothing beside it that tells values of a row apart.
    """

    low: Array
    high: Array
    nulls: Array
    typical: Array
    levels: tuple[tuple[int, Array], ...]
    constant_rows: bool
    picture: Picture | None
    shared: tuple[float, float] | None

    def hold(self, flat: Array) -> bool:
        """Return whether all rows of *flat*, shape (rows, values), hold to every rule."""
        if self.shared is not None and len(flat) == 1:
            return self._one_holds(flat[0])
        least: Array = np.minimum.reduce(flat, axis=1)
        most: Array = np.maximum.reduce(flat, axis=1)
        if not self.constant_rows and (least == most).any():
            return False
        # NaN goes through minimum and maximum, and makes every comparison false.
        if self.low.size == 1:
            inside = (least >= self.low).all() and (most <= self.high).all()
        else:
            inside = (flat >= self.low).all() and (flat <= self.high).all()
        if not inside or any(not np.isin(flat[:, at], known).all() for at, known in self.levels):
            return False
        return self.picture is None or not any(mask.any() for _, mask in self._picture(flat))

    def _one_holds(self, row: Array) -> bool:
        """Return whether a single row does: scalars of Python compare faster than arrays."""
        assert self.shared is not None
        low, high = self.shared
        least, most = row.min().item(), row.max().item()
        if not (low <= least and most <= high) or (least == most and not self.constant_rows):
            return False
        return self.picture is None or not any(mask[0] for _, mask in self._picture(row[None]))

    def cells(self, flat: Array) -> Iterator[tuple[Rule, Array]]:
        """Yield each rule of single values, and where it is broken, shape of *flat*, bool."""
        is_float = flat.dtype.kind == "f"
        missing = np.isnan(flat) if is_float else np.zeros(flat.shape, np.bool_)
        endless = np.isinf(flat) if is_float else missing
        yield "null", missing & ~self.nulls
        yield "infinite", endless
        outside = ~((flat >= self.low) & (flat <= self.high)) & ~missing & ~endless
        strange = np.zeros(flat.shape, np.bool_)
        for at, known in self.levels:
            strange[:, at] = ~np.isin(flat[:, at], known) & ~missing[:, at]
        yield "level", strange
        yield "range", outside & ~strange

    def rows(self, flat: Array) -> Iterator[tuple[Rule, Array]]:
        """Yield each rule of whole rows, and the rows that break it, shape (rows,), bool."""
        if not self.constant_rows:
            yield "constant", np.minimum.reduce(flat, axis=1) == np.maximum.reduce(flat, axis=1)
        if self.picture is not None:
            yield from self._picture(flat)

    def _picture(self, flat: Array) -> Iterator[tuple[Rule, Array]]:
        assert self.picture is not None
        mean, deviation = light(flat)
        yield "brightness", ~_within(mean, self.picture.brightness)
        yield "contrast", ~_within(deviation, self.picture.contrast)

    def repaired(self, flat: Array) -> Array:
        """Return a copy: missing values and unknown levels typical, others clipped."""
        fixed: Array = flat.copy()
        typical = np.broadcast_to(self.typical, flat.shape)
        strange = np.zeros(flat.shape, np.bool_)
        for at, known in self.levels:
            strange[:, at] = ~np.isin(flat[:, at], known)
        if flat.dtype.kind == "f":
            strange |= np.isnan(flat) & ~self.nulls
            strange |= np.isinf(flat) & ~np.isfinite(np.clip(flat, self.low, self.high))
        strange &= ~np.isnan(typical)
        fixed[strange] = typical[strange].astype(flat.dtype)
        return np.clip(fixed, self.low, self.high, out=fixed)

    def expected(self, rule: Rule, at: int) -> str:
        """Return what *rule* wants of the value at position *at*, as it follows "must be"."""
        if rule in ("null", "dtype", "format"):
            return "a number"
        if rule == "infinite":
            return "finite"
        if rule == "level":
            known = next(values for place, values in self.levels if place == at)
            return f"one of {known[:8].tolist()}"
        if rule == "constant":
            return "of more than one value"
        if rule in ("brightness", "contrast") and self.picture is not None:
            name, bounds = (
                ("mean", self.picture.brightness)
                if rule == "brightness"
                else ("standard deviation", self.picture.contrast)
            )
            return f"of a {name} {bounds_text(bounds)}"
        low, high = (float(side[at if side.size > 1 else 0]) for side in (self.low, self.high))
        return bounds_text([low, high], self.low.dtype)

    def value(self, rule: Rule, row: Array, at: int) -> Any:
        """Return what to show of *row*, shape (values,), for a fault at position *at*."""
        if rule == "brightness":
            return float(light(row[None])[0][0])
        if rule == "contrast":
            return float(light(row[None])[1][0])
        value = row[at if rule != "constant" else 0].item()
        if isinstance(value, float) and not np.isfinite(value):
            return None if np.isnan(value) else str(value)  # JSON has no word for infinity
        return value


def compiled(rule: Input, dtype: np.dtype[Any]) -> NumericRules:
    """Return the rules of an input of *dtype*."""
    whole = rule.range or [None, None]
    bounds = [column.range or whole for column in rule.columns] or [whole]
    if all(each == bounds[0] for each in bounds):
        bounds = bounds[:1]
    nulls = [column.nulls > 0 for column in rule.columns] or [rule.nulls > 0]
    typical = [_number(column.typical) for column in rule.columns] or [_number(rule.typical)]
    low = np.array([_edge(low, dtype, up=False) for low, _ in bounds], dtype)
    high = np.array([_edge(high, dtype, up=True) for _, high in bounds], dtype)
    told_apart = low.size > 1 or any(column.levels is not None for column in rule.columns)
    return NumericRules(
        low=low,
        high=high,
        nulls=np.array(nulls),
        typical=np.array(typical),
        levels=tuple(
            (at, np.array(column.levels))
            for at, column in enumerate(rule.columns)
            if column.levels is not None
        ),
        constant_rows=rule.constant_rows,
        picture=rule.image,
        shared=None if told_apart else (low[0].item(), high[0].item()),
    )


def light(flat: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of each row, shape (rows,) each, float64."""
    mean = flat.mean(axis=1, dtype=np.float64)
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64, casting="unsafe")
    return mean, np.sqrt(np.maximum(squares / flat.shape[1] - mean**2, 0.0))


def bounds_text(bounds: Bounds, dtype: np.dtype[Any] | None = None) -> str:
    """Return bounds as they follow "must be"; the ends of *dtype* are none.

    >>> bounds_text([0.0, 16.0])
    'between 0 and 16'
    """
    low, high = bounds
    if dtype is not None:
        info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        low = None if low is not None and low <= info.min else low
        high = None if high is not None and high >= info.max else high
    if low is None:
        return f"<= {high:.6g}" if high is not None else "a number"
    return f">= {low:.6g}" if high is None else f"between {low:.6g} and {high:.6g}"


def _within(values: Array, bounds: Bounds) -> Array:
    low, high = bounds
    held: Array = (values >= (-np.inf if low is None else low)) & (
        values <= (np.inf if high is None else high)
    )
    return held


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _edge(bound: float | None, dtype: np.dtype[Any], *, up: bool) -> Any:
    """Return *bound* as *dtype* holds it, rounded outwards; without one the end of the dtype."""
    if dtype.kind != "f":
        info = np.iinfo(dtype) if dtype.kind in "iu" else None
        low, high = (info.min, info.max) if info is not None else (0, 1)
        if bound is None:
            return high if up else low
        return min(max(int(np.floor(bound) if up else np.ceil(bound)), low), high)
    most = np.finfo(dtype).max
    if bound is None:
        return most if up else -most
    edge = dtype.type(bound)
    if (edge < bound) if up else (edge > bound):
        edge = np.nextafter(edge, dtype.type(np.inf if up else -np.inf))
    return np.clip(edge, -most, most)
