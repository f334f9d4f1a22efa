"""What a check answers, held to the interface before the host goes by it.

A plug-in that answers nonsense is as broken as one that raises: the rule that it breaks is raised
here, where its failure is its own, and not some lines on, where it would be everybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import numpy as np

from scanflow_serve.runtime.checks.protocol import Check, Reading, Verdicts
from scanflow_serve.runtime.checks.rows import Observed
from scanflow_serve.runtime.tensors import Array


def verdicts(check: Check, rows: Observed) -> Verdicts | None:
    """Return what *check* says of each of *rows*; it is not asked about none.

    Raises:
        ValueError: It is not one verdict a row.
        Exception: Whatever the check raises.
    """
    said = check.observe(rows) if rows.rows else None
    if said is None:
        return None
    if not isinstance(said, Verdicts):
        raise ValueError(f"observe must return Verdicts or None, got {type(said).__name__}.")
    flagged = _column("flagged", said.flagged, rows.rows)
    if flagged.dtype != np.bool_:
        raise ValueError(f"flagged must be of dtype bool, got {flagged.dtype}.")
    if said.p_val is not None:
        p = _column("p_val", said.p_val, rows.rows)
        if not ((p > 0) & (p <= 1)).all():  # a p-value of 0 would claim certainty
            wrong = p[~((p > 0) & (p <= 1))]
            raise ValueError(f"p_val must be in (0, 1], got {float(wrong[0])!r}.")
    return said


def reading(check: Check) -> Reading:
    """Return what *check* says at present.

    Raises:
        ValueError: It is no reading, or its figures are no numbers.
        Exception: Whatever the check raises.
    """
    said = check.result()
    if not isinstance(said, Reading):
        raise ValueError(f"result must return a Reading, got {type(said).__name__}.")
    for name in ("statistic", "wealth", "peak", "p_val"):
        value = getattr(said, name)
        if value is None and name != "statistic":
            continue
        if not isinstance(value, int | float | np.number) or isnan(value):
            raise ValueError(f"{name} must be a number, got {value!r}.")
        if name in ("wealth", "peak") and value < 0:
            raise ValueError(f"{name} must be >= 0, got {value!r}.")
    return said


def state(check: Check) -> Mapping[str, Array]:
    """Return what *check* wants to be kept.

    Raises:
        ValueError: It is not all arrays, or some hold objects, which no file does.
        Exception: Whatever the check raises.
    """
    said = check.state()
    for name, array in said.items():
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.hasobject:
            got = getattr(array, "dtype", type(array).__name__)
            raise ValueError(
                f"state must map names to arrays of numbers or text, got {got} in {name!r}."
            )
    return said


def _column(name: str, array: object, rows: int) -> Array:
    if not isinstance(array, np.ndarray) or array.shape != (rows,):
        got = f"shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name} must be an array of shape ({rows},), got {got}.")
    return array
