"""Successive rows taken together: the means of blocks depend less on one another than rows do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from scanflow_serve.runtime.checks.sequences import stretches
from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.tensors import Array

MOST_SESSIONS = 256  # those silent longest are forgotten
LEAST_BLOCKS = 20  # to calibrate on: of fewer, no block is odd enough to win a bet


class BlockMeans:
    """Means of each *rows* successive values of a session.

    >>> means = BlockMeans(2)
    >>> means.add("", np.array([1.0, 3.0, 5.0])), means.add("", np.array([7.0]))
    ((array([2.]), array([1])), (array([6.]), array([0])))
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._open: OrderedDict[str, tuple[float, int]] = OrderedDict()  # sum and count

    def add(self, session: str, values: Array) -> tuple[Array, Array]:
        """Return the means of the blocks that *values* complete, and the places where they do.

        Args:
            values: Which come next in *session*, shape (values,).
        """
        total, count = self._open.pop(session, (0.0, 0))
        sums = total + np.cumsum(values)
        ends = np.flatnonzero((count + np.arange(1, len(values) + 1)) % self.rows == 0)
        means = np.diff(sums[ends], prepend=0.0) / self.rows
        if len(sums):
            total = float(sums[-1] - (sums[ends[-1]] if len(ends) else 0.0))
        self._open[session] = total, (count + len(values)) % self.rows
        if len(self._open) > MOST_SESSIONS:
            self._open.popitem(last=False)
        return means, ends

    def clear(self) -> None:
        """Forget the blocks that are open."""
        self._open.clear()

    def state(self) -> dict[str, Array]:
        """Return the blocks that are open, as arrays to be kept."""
        return {
            "sessions": np.array(list(self._open), dtype=np.str_),
            "open": np.array(list(self._open.values()), dtype=np.float64).reshape(-1, 2),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        pairs = zip(state["sessions"], state["open"], strict=True)
        self._open = OrderedDict((str(name), (float(s), int(n))) for name, (s, n) in pairs)


def reference_rows_needed(block: int) -> int:
    """Return the least reference rows, of which 30 % calibrate, for blocks of *block* rows.

    >>> reference_rows_needed(30)
    2000
    """
    return -(-LEAST_BLOCKS * block * 10 // 3)


def block_means(values: Array, block: int, run: Array | None) -> Array:
    """Return the means of whole blocks of *values*, none of which spans a gap.

    Args:
        values: In order of time, shape (rows,).
        run: Number of the unbroken stretch that each belongs to, shape (rows,); None: all are one.
    """
    means = [BlockMeans(block).add("", values[each])[0] for each in stretches(run, len(values))]
    return np.concatenate(means)


def block_calibration(means: Array, block: int) -> Calibration:
    """Return the calibration by the *means* of blocks of *block* rows.

    Raises:
        ValueError: There are too few.
    """
    if len(means) < LEAST_BLOCKS:
        raise ValueError(
            f"block: there must be >= {LEAST_BLOCKS} blocks of {block} rows to calibrate on, got "
            f"{len(means)}. Give {reference_rows_needed(block)} reference rows, or shorter blocks."
        )
    return Calibration.fit(means)
