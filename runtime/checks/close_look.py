"""What becomes of a request in which something is wrong: told, repaired or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from scanflow_serve.runtime.checks.input_rules import Broken, RuleSet, aspect, flat
from scanflow_serve.runtime.checks.inspection import (
    MOST_FINDINGS,
    NEVER_REFUSED,
    Finding,
    Inspection,
    Unread,
    shown,
)
from scanflow_serve.runtime.tensors import Array, Tensors

OnFail: TypeAlias = Literal["refuse", "flag", "repair"]
# Of cells that no dtype holds: what can be told from the value without a guess is not among them.
_UNANSWERABLE = frozenset({"format", "missing", "null"})
_WHOLE = frozenset({"unknown", "order"})  # of a table's columns rather than of its cells


@dataclass(frozen=True, slots=True)
class CloseLook:
    """Looks at requests that did not pass the fast look.

    Attributes:
        name: The check's.
    """

    name: str
    rules: RuleSet
    on_fail: OnFail

    def __call__(
        self, inputs: Tensors, rows: int, unread: Sequence[Unread], repeats: Sequence[int]
    ) -> Inspection:
        """Return what is wrong with *inputs*, and what the model is to be given instead.

        Args:
            unread: Cells that are no values; the inputs have placeholders there.
            repeats: Rows that came before.
        """
        unread = [each for each in unread if not self._is_plain_null(each)]
        broken = self._unless_unread(list(self.rules.look(inputs)), unread)
        repaired = self._repaired(inputs, broken, unread) if self.on_fail == "repair" else None
        flagged = np.zeros(rows, np.bool_)
        for each in broken:
            flagged |= each.rows
        flagged[[self._place(inputs, each)[0] for each in unread]] = True
        flagged[list(repeats)] = True
        findings = [
            *self._unread_findings(inputs, unread, repaired),
            *self._rule_findings(inputs, broken, repaired),
            *(self._repeat(row) for row in repeats[:MOST_FINDINGS]),
        ]
        findings.sort(key=lambda each: each.row)
        return Inspection(
            findings=tuple(findings[:MOST_FINDINGS]),
            inputs=repaired,
            refused=self._refused(findings, unread, repaired),
            flagged=int(flagged.sum()),
        )

    def _is_plain_null(self, each: Unread) -> bool:
        """Return whether a placeholder says all: NaN, or an empty text, is looked at as such."""
        return each.rule == "null" and self.rules.specs[each.input].numpy_dtype.kind in "fO"

    def _place(self, inputs: Tensors, each: Unread) -> tuple[int, int]:
        """Return row and position in the row."""
        row, at = divmod(max(each.at, 0), max(1, int(inputs[each.input][0].size)))
        return row, at

    def _unless_unread(self, broken: list[Broken], unread: Sequence[Unread]) -> list[Broken]:
        """Return *broken* without what is broken by a placeholder only."""
        for each in unread:
            if each.rule in ("dtype", *_WHOLE):
                continue  # the value itself stands there
            for other in broken:
                if other.input == each.input and other.mask.ndim == 2:
                    other.mask.flat[each.at] = False
        return [each for each in broken if each.mask.any()]

    def _repaired(
        self, inputs: Tensors, broken: Sequence[Broken], unread: Sequence[Unread]
    ) -> Tensors | None:
        """Return *inputs* with what can be repaired; None where nothing can."""
        touched = {each.input for each in broken if each.mask.ndim == 2}
        touched |= {each.input for each in unread if each.rule not in _WHOLE}
        touched &= self.rules.rules.keys()
        if not touched:
            return None
        mended = dict(inputs)
        for name in touched:
            matrix = flat(inputs[name]).copy()
            for each in unread:
                if each.input == name and each.rule in _UNANSWERABLE:
                    self._impute(matrix, each)
            whole: Array = self.rules.rules[name].repaired(matrix)
            mended[name] = whole.reshape(inputs[name].shape).view(inputs[name].dtype)
        return mended

    def _impute(self, matrix: Array, each: Unread) -> None:
        told = self.rules.inputs[each.input]
        at = each.at % matrix.shape[1]
        typical = told.columns[at].typical if told.columns else told.typical
        if typical is not None:
            whole = matrix.dtype.kind in "iu" and isinstance(typical, float)
            matrix.flat[each.at] = round(typical) if whole else typical

    def _can_impute(self, each: Unread, width: int) -> bool:
        told = self.rules.inputs.get(each.input)
        if told is None:
            return False
        return (told.columns[each.at % width].typical if told.columns else told.typical) is not None

    def _refused(
        self, findings: Sequence[Finding], unread: Sequence[Unread], repaired: Tensors | None
    ) -> Finding | None:
        if self.on_fail == "refuse":
            return next((each for each in findings if each.rule not in NEVER_REFUSED), None)
        for each in unread:
            if each.rule not in _UNANSWERABLE:
                continue
            array = None if repaired is None else repaired[each.input]
            if array is None or not self._can_impute(each, array[0].size):
                return next(finding for finding in findings if finding.rule == each.rule)
        return None

    def _unread_findings(
        self, inputs: Tensors, unread: Sequence[Unread], repaired: Tensors | None
    ) -> Iterator[Finding]:
        for each in unread[:MOST_FINDINGS]:
            row, at = self._place(inputs, each)
            whole = each.rule in _WHOLE
            instead = None
            if repaired is not None and not whole:
                instead = _item(flat(repaired[each.input])[row, at])
            rules = self.rules.rules.get(each.input)
            expected = "a value" if rules is None else rules.expected(each.rule, at)
            yield Finding(
                check=self.name,
                row=row,
                input=each.input,
                at="" if whole else self.at(each.input, inputs[each.input], at),
                rule=each.rule,
                value=_brief(each.value),
                expected=self._columns(each) if whole else expected,
                repaired=instead,
            )

    def _columns(self, each: Unread) -> str:
        told = self.rules.inputs.get(each.input)
        names = [] if told is None else [column.name for column in told.columns]
        names = names if len(names) > 1 else [*self.rules.specs]
        return f"the columns {shown(names)}{', in that order' if each.rule == 'order' else ''}"

    def _rule_findings(
        self, inputs: Tensors, broken: Sequence[Broken], repaired: Tensors | None
    ) -> Iterator[Finding]:
        for each in broken:
            array = inputs[each.input]
            for place in np.argwhere(each.mask)[:MOST_FINDINGS].tolist():
                row, at = place if len(place) == 2 else (place[0], -1)
                yield self._finding(each, array, row, at, repaired)

    def _finding(
        self, each: Broken, array: Array, row: int, at: int, repaired: Tensors | None
    ) -> Finding:
        value: Any
        if each.rule == "shape":
            value, wanted = list(array.shape[1:]), self.rules.inputs[each.input].shape
            expected = f"of shape {[-1 if n is None else n for n in wanted]}"
        elif each.rule == "aspect":
            picture = self.rules.inputs[each.input].image
            bounds = (picture.aspect if picture is not None else None) or [None, None]
            value, expected = aspect(array), f"{bounds[0]} to {bounds[1]} times as wide as high"
        else:
            rules = self.rules.rules[each.input]
            value = rules.value(each.rule, flat(array)[row], max(at, 0))
            expected = rules.expected(each.rule, max(at, 0))
        return Finding(
            check=self.name,
            row=row,
            input=each.input,
            at="" if at < 0 else self.at(each.input, array, at),
            rule=each.rule,
            value=_brief(value),
            expected=expected,
            repaired=None
            if repaired is None or at < 0
            else _item(flat(repaired[each.input])[row, at]),
        )

    def _repeat(self, row: int) -> Finding:
        name = next(iter(self.rules.specs))
        return Finding(
            self.name, row, name, "", "duplicate", None, "a row that did not come before"
        )

    def at(self, name: str, array: Array, position: int) -> str:
        """Return the place of the value at *position* of a row, as findings tell it."""
        told = self.rules.inputs.get(name)
        if told is not None and told.columns and not told.columns[position].name.isdecimal():
            column = told.columns[position].name
            return "" if column == name else f".{column}"
        shape = array.shape[1:]
        return "".join(f"[{i}]" for i in np.unravel_index(position, shape)) if shape else ""


def _item(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


def _brief(value: Any) -> Any:
    if isinstance(value, str) and len(value) > 60:
        return shown(value)
    return value if isinstance(value, str | int | float | bool | None) else shown(value)
