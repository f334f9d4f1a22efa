"""Maximum mean discrepancy of a window of rows from the reference: sees what marginals cannot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scanflow_serve.runtime.checks.statistics.comparison import Comparison
from scanflow_serve.runtime.tensors import Array

REFERENCE_ROWS = 500  # at most: a row costs as many kernel values
PERMUTATIONS = 200
MEDIAN_ROWS = 200  # of which the median distance is taken


class MeanDiscrepancy:
    """Kernel means of reference and window, compared by permutation.

    A row costs O(reference + window) as it comes; what it was compared to before is kept.

    Source:
        Gretton et al. (2012), "A kernel two-sample test", JMLR 13; Cobb, Van Looveren & Klaise
        (2022), "Sequential multivariate change detection with calibrated and memoryless false
        detection rates", for the update.
    """

    def __init__(self, reference: Array, window: int, seed: int = 0) -> None:
        """Take the reference's kernel.

        Args:
            reference: Shape (rows, features), finite; of more than 500 rows some are drawn.
            window: Rows that a window has at most.
            seed: Of the draw, and of the permutations.

        Raises:
            ValueError: There are fewer than two rows, or a value is not finite.
        """
        rows = np.asarray(reference, dtype=np.float64)
        if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
            raise ValueError(
                f"mmd: reference must be finite, of at least 2 rows, got shape {rows.shape}. "
                "Give clean rows of numbers."
            )
        self._seed = seed
        self._compared = 0  # windows; each has permutations of its own, before a restart and after
        drawn = np.random.default_rng(seed).permutation(len(rows))[:REFERENCE_ROWS]
        self._centre, scale = rows.mean(axis=0), rows.std(axis=0)
        self._scale = np.where(scale > 0, scale, 1.0)
        self._known = (rows[drawn] - self._centre) / self._scale
        self._width = _median_square(self._known[:MEDIAN_ROWS])
        self._window = window
        size = len(self._known) + window
        self._kernel = np.empty((size, size))
        self._kernel[: len(self._known), : len(self._known)] = self._similar(self._known)
        self._rows = np.empty((window, rows.shape[1]))
        self.rows = 0

    def add(self, rows: Array) -> None:
        """Count *rows* in, of shape (rows, features), no more than the window still takes.

        Raises:
            ValueError: A value is NaN, or they are too many.
        """
        given = (np.asarray(rows, dtype=np.float64) - self._centre) / self._scale
        if np.isnan(given).any() or len(given) > self._window - self.rows:
            raise ValueError(
                f"mmd: rows must be numbers and at most {self._window - self.rows}, got "
                f"{len(given)} or NaN. Leave out the rows that integrity flags."
            )
        self._gather(given)

    def _gather(self, given: Array) -> None:
        """Count standardised rows in."""
        first, last = len(self._known) + self.rows, len(self._known) + self.rows + len(given)
        self._rows[self.rows : self.rows + len(given)] = given
        self.rows += len(given)
        everything = np.concatenate([self._known, self._rows[: self.rows]])
        values = self._similar(given, everything)
        self._kernel[first:last, :last] = values
        self._kernel[:last, first:last] = values.T

    def compare(self) -> Comparison:
        """Return the discrepancy of the rows counted, squared and unbiased, and its p-value.

        p is (1 + c) / (1 + P) of P permutations, never 0.
        """
        known, size = len(self._known), len(self._known) + self.rows
        kernel = self._kernel[:size, :size].copy()
        np.fill_diagonal(kernel, 0.0)
        member = np.zeros((PERMUTATIONS + 1, size))
        member[0, known:] = 1.0
        self._compared += 1
        rng = np.random.default_rng([self._seed, self._compared])
        for row in range(1, PERMUTATIONS + 1):
            member[row, rng.permutation(size)[: self.rows]] = 1.0
        within = ((member @ kernel) * member).sum(axis=1)
        touched = member @ kernel.sum(axis=1)
        others = kernel.sum() - 2 * touched + within
        n, m = known, self.rows
        values = within / (m * (m - 1)) + others / (n * (n - 1)) - 2 * (touched - within) / (n * m)
        # Equal but for rounding counts as at least as large: p stays at least uniform.
        larger = int((values[1:] >= values[0] - 1e-12).sum())
        p = (1 + larger) / (1 + PERMUTATIONS)
        one = np.array([p])
        return Comparison(m, p, values[:1], one, one)

    def clear(self) -> None:
        """Begin the next window."""
        self.rows = 0

    def state(self) -> dict[str, Array]:
        """Return the window's rows, as arrays to be kept; the reference is not among them."""
        return {
            "standardised": self._rows[: self.rows].copy(),
            "compared": np.array(self._compared),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self.clear()
        self._compared = int(state["compared"])
        self._gather(state["standardised"])

    def _similar(self, rows: Array, to: Array | None = None) -> Array:
        """Return the Gaussian kernel of each row and each of *to*, themselves by default."""
        others = rows if to is None else to
        squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
        similar: Array = np.exp(-np.maximum(squares, 0.0) / self._width)
        return similar


def _median_square(rows: Array) -> float:
    """Return the median squared distance between rows, 1 if they are all one."""
    squares = ((rows[:, None, :] - rows[None, :, :]) ** 2).sum(axis=2)
    distances = squares[np.triu_indices(len(rows), 1)]
    some = distances[distances > 0]
    return float(np.median(some)) if len(some) else 1.0
