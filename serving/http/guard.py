"""Integrity on the request path: what is wrong is refused, repaired or told, before inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.inspection import (
    CLEAN,
    Finding,
    Inspection,
    Unread,
    refusal_text,
)
from scanflow_serve.runtime.checks.integrity import Integrity
from scanflow_serve.runtime.tensors import Tensors
from scanflow_serve.serving.http.cells import Cells

Place: TypeAlias = Callable[[Finding], str]  # where in the body a finding's value stands


class Guard:
    """The integrity checks of one run.

    Args:
        names: Public names whose inputs are the run's.
    """

    def __init__(self, checks: Sequence[Integrity], names: frozenset[str]) -> None:
        self.checks = tuple(checks)
        self._names = names
        self._columns = next(filter(None, (check.columns() for check in checks)), ())

    def cells(self, name: str) -> Cells | None:
        """Return what takes cells that are no values, None where nothing inspects them."""
        return Cells(self._columns) if name in self._names else None

    def inspect(
        self, name: str, inputs: Tensors, rows: int, unread: Sequence[Unread], place: Place
    ) -> Inspection:
        """Return what is wrong with a request.

        Args:
            unread: Cells of the body that are no values.

        Raises:
            RequestError: 422, a rule of a check that refuses is broken.
        """
        if name not in self._names:
            return CLEAN
        findings: tuple[Finding, ...] = ()
        repaired: Tensors | None = None
        for check in self.checks:
            found = check.inspect(inputs, rows, unread)
            if found is CLEAN:
                continue
            if found.refused is not None:
                others = (each for each in found.findings if each is not found.refused)
                check.flagged.judge(inputs, (found.refused, *others))
                raise RequestError(422, refusal_text(found.refused, place(found.refused)))
            findings += found.findings
            if found.inputs is not None:  # the next one judges what the model will get
                inputs = repaired = found.inputs
                unread = ()
        return CLEAN if not findings else Inspection(findings, repaired)

    def show(
        self, inputs: Tensors, findings: Sequence[Finding], ids: Sequence[str], variant: str
    ) -> None:
        """Keep what was answered in spite of *findings*, for people to look at.

        Args:
            inputs: As they came.
            ids: Prediction ids of all rows.
        """
        for check in self.checks:
            own = [each for each in findings if each.check == check.name]
            if own:
                check.flagged.judge(inputs, own, ids, variant)


def path_in(where: str, *, batched: bool = True, named: bool = False) -> Place:
    """Return what tells the JSON path of a finding.

    Args:
        where: Of the inputs in the body.
        batched: False where the body left the batch dimension out.
        named: Inputs stand under their names there.

    >>> finding = Finding("integrity", 2, "pixels", "[3]", "range", 99.0, "0 to 16")
    >>> path_in("inputs")(finding), path_in("inputs", named=True)(finding)
    ('inputs[2][3]', 'inputs.pixels[2][3]')
    """

    def path(finding: Finding) -> str:
        at = f"{where}.{finding.input}" if named else where
        return f"{at}[{finding.row}]{finding.at}" if batched else f"{at}{finding.at}"

    return path
