"""What a check before inference says of one request: each thing found, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from scanflow_serve.runtime.tensors import Tensors

Rule: TypeAlias = Literal[
    "dtype",  # text where a number belongs, or the other way round
    "format",  # a cell that is no value at all, or text of another form
    "null",  # missing where the reference never is
    "infinite",
    "range",
    "level",  # a category that the reference does not have
    "shape",
    "missing",  # a column
    "unknown",  # a column
    "order",  # of columns
    "constant",  # all values of a row are one: a blank image, a dead sensor
    "duplicate",  # of a row of this request, or of the one before
    "brightness",
    "contrast",
    "aspect",
]
# Said of a source rather than of a row: the row itself may be right, so it is answered.
NEVER_REFUSED: frozenset[Rule] = frozenset({"duplicate"})
# What no amount of clean traffic brings: one is enough for an alarm.
NOVEL: frozenset[Rule] = frozenset({"dtype", "level", "missing", "unknown"})
MOST_FINDINGS = 100  # told of one request; a body may have a million faults


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that one row broke.

    Attributes:
        check: The check's name.
        row: Counted from 0 in the request.
        input: Public name.
        at: Place in the row, such as ``[3]``, ``[0][2]`` or ``.age``; "" for all of it.
        value: What came, short enough to be shown.
        expected: What must hold, as it follows "must be".
        repaired: What the model was given instead; None if it got what came.
    """

    check: str
    row: int
    input: str
    at: str
    rule: Rule
    value: Any
    expected: str
    repaired: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as replies show it."""
        told: dict[str, Any] = {
            "check": self.check,
            "rule": self.rule,
            "at": f"{self.input}{self.at}",
            "value": self.value,
            "expected": self.expected,
        }
        return told if self.repaired is None else told | {"repaired": self.repaired}


@dataclass(frozen=True, slots=True)
class Unread:
    """A cell of a body that is no value of its input's dtype; a placeholder stands for it.

    Attributes:
        at: Position in the input's values, row by row.
        value: What came; None where nothing did.
        rule: ``dtype``, ``format``, ``null`` or ``missing``.
    """

    input: str
    at: int
    value: Any
    rule: Rule


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in one request.

    Attributes:
        findings: At most `MOST_FINDINGS`, in order of rows.
        inputs: What the model is to be given instead; None: what came.
        refused: The finding for which the request is not to be answered; None if it is.
        flagged: How many rows something was found in.
    """

    findings: tuple[Finding, ...] = ()
    inputs: Tensors | None = None
    refused: Finding | None = None
    flagged: int = 0

    def by_row(self, rows: int) -> list[list[dict[str, Any]]]:
        """Return the verdicts of each row, an empty list where there are none."""
        return verdicts(self.findings, rows)


CLEAN = Inspection()


def verdicts(findings: tuple[Finding, ...], rows: int) -> list[list[dict[str, Any]]]:
    """Return what was found in each of *rows* rows, as replies show it."""
    told: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
    for finding in findings:
        told[finding.row].append(finding.to_json())
    return told


def flags(findings: tuple[Finding, ...]) -> str:
    """Return the findings as one flat text, as OIP's parameters hold it.

    >>> flags((Finding("integrity", 2, "pixels", "[3]", "range", 99.0, "0 to 16"),))
    '2:integrity.range'
    """
    return ",".join(dict.fromkeys(f"{each.row}:{each.check}.{each.rule}" for each in findings))


def refusal_text(finding: Finding, place: str) -> str:
    """Return why a request is refused.

    Args:
        place: Where in the body the value stands, as a JSON path.
    """
    return (
        f"{place} must be {finding.expected}, got {shown(finding.value)}."
        f" Rule {finding.rule!r} of check {finding.check!r} refuses row {finding.row};"
        " send a corrected value."
    )


def shown(value: Any, most: int = 60) -> str:
    """Return *value* as a message shows it."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
