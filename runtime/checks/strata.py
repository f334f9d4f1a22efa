"""What divides rows into strata: the hour of day, the session, or an input such as a device's id.

Within a stratum rows are exchangeable where they are not as a whole: nights have other scores than
days, one camera than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.rows import Observed, Reference
from scanflow_serve.runtime.checks.statistics.splits import (
    DEFAULT_RUN_LENGTH,
    calibration_rows_needed,
    reference_rows_needed,
)
from scanflow_serve.runtime.checks.statistics.strata import StratifiedCalibration, hours_of_day
from scanflow_serve.runtime.tensors import Array

HOUR, SESSION = "hour", "session"
BESIDE_INPUTS = (HOUR, SESSION)  # told by the clock or the request, in a file by a column
SHOWN = 5
LEAST_ROWS = calibration_rows_needed(DEFAULT_RUN_LENGTH)  # of a stratum with a set of its own


LEAST_REFERENCE_ROWS = reference_rows_needed(DEFAULT_RUN_LENGTH)


@dataclass(frozen=True, slots=True)
class Strata:
    """How the rows of a check are divided.

    Attributes:
        by: ``hour`` (of day, UTC), ``session``, or the name of an input.
    """

    by: str

    def of_rows(self, rows: Observed) -> Array:
        """Return the stratum of each live row, text, shape (rows,).

        Raises:
            ValueError: There is no such input, or it is no text or whole number a row.
        """
        if self.by == HOUR:
            return hours_of_day(rows.at).astype(np.str_)
        if self.by == SESSION:
            return np.full(rows.rows, rows.session)
        return _of_input(self.by, rows.inputs.get(self.by))

    def of_reference(self, reference: Reference) -> Array:
        """Return the stratum of each reference row, text, shape (rows,).

        Raises:
            ValueError: As `of_rows`; or it has no times, or no sessions.
        """
        if self.by not in BESIDE_INPUTS:
            return _of_input(self.by, reference.inputs.get(self.by))
        column = reference.at if self.by == HOUR else reference.session
        if column is None:
            raise ValueError(
                f"strata: reference must tell each row's {self.by}, got none. "
                "Name its array by strata_column, or learn from live traffic."
            )
        return (hours_of_day(column) if self.by == HOUR else column).astype(np.str_)

    def calibration(self, scores: Array, strata: Array) -> StratifiedCalibration:
        """Return the calibration by *scores* of rows in *strata*, both of shape (rows,).

        Raises:
            ValueError: No stratum has enough rows for a set of its own; a score is not finite.
        """
        found = StratifiedCalibration.fit(scores, strata, LEAST_ROWS)
        if found.strata:
            return found
        names, counts = np.unique(strata, return_counts=True)
        raise ValueError(
            f"strata: a stratum must have >= {LEAST_ROWS} calibration rows, got at most "
            f"{counts.max()} in {len(names)} strata. Give {LEAST_REFERENCE_ROWS} reference rows "
            "of each, or divide by what has fewer values."
        )


def left_out(found: StratifiedCalibration, strata: Array | None) -> str:
    """Return which strata have too few calibration rows to be judged; "" if none has.

    Args:
        strata: Of the calibration rows, shape (rows,); None where they are not divided.
    """
    if strata is None:
        return ""
    names = sorted(set(strata.tolist()) - found.strata.keys())
    if not names:
        return ""
    shown = ", ".join(names[:SHOWN]) + ("" if len(names) <= SHOWN else ", …")
    return (
        f"strata: {len(names)} of {len(names) + len(found.strata)} have fewer than {LEAST_ROWS} "
        f"calibration rows and are not judged: {shown}. Give {LEAST_REFERENCE_ROWS} reference rows "
        "of each."
    )


def calibration(scores: Array, strata: Array | None, by: Strata | None) -> StratifiedCalibration:
    """Return the calibration of *scores*, divided where *by* says how.

    Raises:
        ValueError: As `Strata.calibration`.
    """
    if by is None or strata is None:
        return StratifiedCalibration.of_one(scores)
    return by.calibration(scores, strata)


def with_column(reference: Reference, by: str, column: Array) -> Reference:
    """Return *reference* with what an array of its file tells of each row.

    Args:
        by: ``hour``: Unix times in s, or ISO 8601 text (UTC where it names no zone); ``session``.

    Raises:
        ValueError: A time can't be read.
    """
    if by == HOUR:
        return replace(reference, at=_times(column))
    return replace(reference, session=column.astype(np.str_))


def _of_input(name: str, array: Array | None) -> Array:
    if array is None:
        raise ValueError(f"strata must be hour, session or an input, got {name!r}.")
    if array.reshape(len(array), -1).shape[1] != 1 or array.dtype.kind not in "biuOUS":
        raise ValueError(
            f"strata: input {name!r} must be one text or whole number a row, got "
            f"{array.dtype.name} of shape {array.shape}. Divide by another input."
        )
    return array.reshape(len(array)).astype(np.str_)


def _times(column: Array) -> Array:
    if column.dtype.kind == "M":
        return column.astype("datetime64[ms]").astype(np.float64) / 1000
    if column.dtype.kind in "iuf":
        return column.astype(np.float64)
    return np.array([_time(text) for text in _texts(column)])


def _texts(column: Array) -> Sequence[Any]:
    return [str(each) for each in column.tolist()]


def _time(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"strata_column must hold times, got {text!r}. "
            "Give Unix times in s, or ISO 8601 such as 2026-01-31T12:00:00Z."
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
