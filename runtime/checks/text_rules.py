"""The rules of an input of text: categories, missing texts, numbers and dates in text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.input_schema import Column, Format, Input
from scanflow_serve.runtime.checks.inspection import Rule, shown
from scanflow_serve.runtime.tensors import Array

# Of ISO 8601 what spreadsheets and databases write.
FORMATS: dict[Format, re.Pattern[str]] = {
    "number": re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"),
    "date": re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?"),
}
_WORDS: dict[Format, str] = {
    "number": "a number, such as 12.5",
    "date": "a date, such as 2026-11-23",
}


@dataclass(frozen=True, slots=True)
class TextRules:
    """What every row of one input of text must hold to.

    Attributes:
        columns: Of a row's values, in order; a single one where all share it.
        levels: Of each column; None where any text may come.
        constant_rows: Whether a row of one repeated text may come.
    """

    columns: tuple[Column, ...]
    levels: tuple[frozenset[str] | None, ...]
    constant_rows: bool

    def hold(self, flat: Array) -> bool:
        """Return whether all rows of *flat*, shape (rows, values), hold to every rule."""
        return not any(mask.any() for _, mask in (*self.cells(flat), *self.rows(flat)))

    def cells(self, flat: Array) -> Iterator[tuple[Rule, Array]]:
        """Yield each rule of single values, and where it is broken, shape of *flat*, bool."""
        masks: dict[Rule, Array] = {}
        for at in range(flat.shape[1]):
            for row, text in enumerate(flat[:, at]):
                rule = self._broken(text, at)
                if rule is not None:
                    masks.setdefault(rule, np.zeros(flat.shape, np.bool_))[row, at] = True
        yield from masks.items()

    def rows(self, flat: Array) -> Iterator[tuple[Rule, Array]]:
        """Yield each rule of whole rows, and the rows that break it, shape (rows,), bool."""
        if not self.constant_rows:
            same: Array = (flat == flat[:, :1]).all(axis=1)
            yield "constant", same

    def repaired(self, flat: Array) -> Array:
        """Return a copy: missing texts and unknown levels become the most frequent level."""
        fixed: Array = flat.copy()
        for _, mask in self.cells(flat):
            for row, at in np.argwhere(mask):
                typical = self._column(int(at)).typical
                if typical is not None:
                    fixed[row, at] = str(typical)
        return fixed

    def expected(self, rule: Rule, at: int) -> str:
        """Return what *rule* wants of the value at position *at*, as it follows "must be"."""
        if rule == "constant":
            return "of more than one value"
        known = self.levels[at if len(self.levels) > 1 else 0]
        if known is not None:
            return f"one of {sorted(known)[:8]}"
        form = self._column(at).format
        return _WORDS[form] if rule == "format" and form is not None else "a text"

    def value(self, rule: Rule, row: Array, at: int) -> Any:
        """Return what to show of *row*, shape (values,), for a fault at position *at*."""
        text = row[at if rule != "constant" else 0]
        return text if text is None or len(text) <= 60 else shown(text)

    def _column(self, at: int) -> Column:
        return self.columns[at if len(self.columns) > 1 else 0]

    def _broken(self, text: Any, at: int) -> Rule | None:
        column = self._column(at)
        if text is None or text == "":
            return None if column.nulls > 0 else "null"
        known = self.levels[at if len(self.levels) > 1 else 0]
        if known is not None:
            return None if text in known else "level"
        if column.format is not None and not FORMATS[column.format].fullmatch(text):
            return "format"
        return None


def compiled(rule: Input) -> TextRules:
    """Return the rules of an input of text."""
    columns = tuple(rule.columns) or (Column(name="", nulls=1.0),)
    levels = tuple(
        None if column.levels is None else frozenset(map(str, column.levels)) for column in columns
    )
    return TextRules(columns, levels, rule.constant_rows)
