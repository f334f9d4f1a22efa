"""Cells and columns that are not what the model takes: put aside for integrity to judge.

Without an integrity check they are 400, told at their place by whoever reads the body.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.inspection import Rule, Unread, shown

MOST_UNREAD = 10_000  # cells of a request
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.A)
_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*", re.A)


class _Absent:
    """What stands in a row where a column is missing."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


class Cells:
    """Reads the cells of one request as far as they can be, and remembers the others.

    Args:
        columns: Names of the only input's values in order, where its schema gives them.

    Attributes:
        unread: What could not be read, or was not of its dtype.
    """

    def __init__(self, columns: tuple[str, ...] = ()) -> None:
        self.columns = columns
        self.unread: list[Unread] = []

    def readable(self, flat: list[Any], dtype: str, name: str) -> list[Any]:
        """Return *flat* with a placeholder for each leaf that is no value of *dtype*.

        Args:
            name: Of the input.

        Raises:
            RequestError: 422, there are more than `MOST_UNREAD` of them.
        """
        read = {"f": _float, "i": _integer, "u": _integer, "b": _boolean, "s": _text}[dtype[0]]
        settled = []
        for at, value in enumerate(flat):
            kept, rule = read(value)
            settled.append(kept)
            if rule is not None:
                self._put_aside(Unread(name, at, None if value is ABSENT else value, rule))
        return settled

    def arranged(
        self, rows: list[list[Any]], given: list[str], wanted: Sequence[str], name: str
    ) -> list[list[Any]]:
        """Return *rows*, which have the columns *given*, with the columns *wanted*, in order.

        Where no name is shared, names say nothing and the position counts.
        """
        if list(given) == list(wanted) or not set(given) & set(wanted):
            return rows
        strange = [column for column in given if column not in set(wanted)]
        if strange:
            self._put_aside(Unread(name, -1, shown(strange), "unknown"))
        shared = [column for column in given if column in set(wanted)]
        if shared != [column for column in wanted if column in set(given)]:
            self._put_aside(Unread(name, -1, shown(given), "order"))
        places = [given.index(column) if column in given else -1 for column in wanted]
        return [[row[at] if at >= 0 else ABSENT for at in places] for row in rows]

    def _put_aside(self, cell: Unread) -> None:
        if len(self.unread) >= MOST_UNREAD:
            raise RequestError(
                422,
                f"input {cell.input!r} must have <= {MOST_UNREAD} cells that are no values, got"
                f" more, such as {shown(cell.value)}. Send what the model takes.",
            )
        self.unread.append(cell)


def _rule_of(value: Any) -> Rule:
    if value is ABSENT:
        return "missing"
    return "null" if value is None or value == "" else "format"


def _float(value: Any) -> tuple[float, Rule | None]:
    if type(value) in (int, float):
        return value, None
    if type(value) is bool or (type(value) is str and _NUMBER.fullmatch(value)):
        return float(value), "dtype"
    return float("nan"), _rule_of(value)


def _integer(value: Any) -> tuple[int | float, Rule | None]:
    if type(value) in (int, float):
        return value, None
    if type(value) is bool or (type(value) is str and _INTEGER.fullmatch(value)):
        return int(value), "dtype"
    return 0, _rule_of(value)


def _boolean(value: Any) -> tuple[bool, Rule | None]:
    if type(value) is bool:
        return value, None
    if value in (0, 1):
        return bool(value), "dtype"
    return False, _rule_of(value)


def _text(value: Any) -> tuple[str, Rule | None]:
    if type(value) is str:
        return value, None
    if type(value) in (int, float, bool):
        return str(value), "dtype"
    return "", _rule_of(value)
