"""Three disjoint parts of the reference, and the run length that the second can honour.

A threshold taken on rows that the detector was fitted to promises 5 % and delivers 13 to 21 %:
what is fitted, what is calibrated and what verifies never share a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from scanflow_serve.runtime.tensors import Array

LEAST_ROWS = 10  # below, a part would be empty
BLOCKS = 50  # of rows in order: five rounds of the ten blocks that 60/30/10 needs

# Run length that one calibration row honours. Beyond, the calibration set's own luck shows: at
# A = 1e6 a set of 600 rows was measured to run 0.15 to 0.57e6 rows; at A <= 50 n all held.
RUN_LENGTH_PER_ROW = 50
DEFAULT_RUN_LENGTH = 10_000  # rows


@dataclass(frozen=True, slots=True)
class Splits:
    """Row numbers of each part, int64, ascending, disjoint.

    Attributes:
        fit: 60 %, for scaler and reconstructor.
        calibrate: 30 %, which live scores are ranked among.
        verify: 10 %, which must reproduce the promised rate.
    """

    fit: Array
    calibrate: Array
    verify: Array


def split_rows(rows: int, *, seed: int, ordered: bool = False, block: int | None = None) -> Splits:
    """Return 60 % of the rows to fit, 30 % to calibrate, 10 % to verify.

    Args:
        rows: How many there are.
        seed: Of the draw.
        ordered: Rows are in order of time and resemble their neighbours: whole blocks go to one
            part, six, three and one of every ten, so that each part sees the whole time.
        block: Rows over which an ordered reference depends on itself, such as a day's; a fiftieth
            of the rows by default.

    Raises:
        ValueError: There are too few rows, or too few blocks, to fill three parts.

    >>> parts = split_rows(667, seed=0)
    >>> len(parts.fit), len(parts.calibrate), len(parts.verify)
    (401, 200, 66)
    """
    if rows < LEAST_ROWS:
        raise ValueError(
            f"reference: rows must be >= {LEAST_ROWS}, got {rows}. Give more rows of normal times."
        )
    rng = np.random.default_rng(seed)
    order = _by_blocks(rows, block, rng) if ordered else rng.permutation(rows)
    calibrate, verify = rows * 3 // 10, rows // 10
    fit = rows - calibrate - verify
    return Splits(
        fit=np.sort(order[:fit]),
        calibrate=np.sort(order[fit : fit + calibrate]),
        verify=np.sort(order[fit + calibrate :]),
    )


def _by_blocks(rows: int, block: int | None, rng: np.random.Generator) -> Array:
    """Return the rows with those of the blocks to fit first, then to calibrate, then to verify."""
    blocks = min(BLOCKS, rows) if block is None else rows // block
    if blocks < LEAST_ROWS:
        raise ValueError(
            f"reference: rows in order must be >= {LEAST_ROWS} blocks of {block}, got {rows}. "
            f"Give {LEAST_ROWS * (block or 1)} rows, or a shorter block."
        )
    # Shares of ten by rank in each round of ten: cutting where exactly 60 % and 90 % of the rows
    # lie splits one block at most, and keeps the counts those of rows in random order.
    rank = np.concatenate([rng.permutation(10) for _ in range(ceil(blocks / 10))])[:blocks]
    of_row = np.arange(rows) * blocks // rows
    return np.argsort(rank[of_row], kind="stable")


def calibration_rows_needed(run_length: int) -> int:
    """Return the least calibration rows that honour *run_length* rows between false alarms.

    >>> calibration_rows_needed(10_000)
    200
    """
    return ceil(run_length / RUN_LENGTH_PER_ROW)


def reference_rows_needed(run_length: int) -> int:
    """Return the least reference rows, of which 30 % calibrate, that honour *run_length*.

    >>> reference_rows_needed(10_000)
    667
    """
    return ceil(calibration_rows_needed(run_length) * 10 / 3)


@dataclass(frozen=True, slots=True)
class RunLength:
    """Rows between false alarms, as a calibration set can honour.

    Attributes:
        rows: A: an alarm needs so much wealth.
        warning: Why it is less than the default; "" where it is not.
    """

    rows: int
    warning: str = ""


def honoured_run_length(
    asked: int | None, calibration_rows: int, *, strict: bool = False
) -> RunLength:
    """Return the run length to bet against: what was *asked*, or the default, lowered if need be.

    Args:
        asked: The policy's `expected_run_length`; None if it does not say.
        calibration_rows: Of the smallest calibration set among the model's detectors.
        strict: p-values are inflated for the luck of the calibration set, at a cost in delay:
            then any run length is honoured.

    Raises:
        ValueError: More was asked for than the calibration set honours; says what would be needed.

    >>> honoured_run_length(None, 100).rows
    5000
    """
    most = RUN_LENGTH_PER_ROW * calibration_rows
    wanted = DEFAULT_RUN_LENGTH if asked is None else asked
    if strict or wanted <= most:
        return RunLength(wanted)
    needed = calibration_rows_needed(wanted)
    rows = f"{needed} calibration rows, that is {reference_rows_needed(wanted)} reference rows"
    if asked is not None:
        raise ValueError(
            f"expected_run_length must be <= {RUN_LENGTH_PER_ROW} x {calibration_rows} calibration "
            f"rows = {most}, got {asked}. Give {rows}, ask for at most {most}, or set strict: "
            "true, which costs delay."
        )
    return RunLength(
        most,
        f"expected_run_length is {most}, not {wanted}: there are {calibration_rows} calibration "
        f"rows. Give {rows}.",
    )
