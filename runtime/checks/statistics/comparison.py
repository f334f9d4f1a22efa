"""A window of rows held against the reference, feature by feature, by their histograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scanflow_serve.runtime.checks.statistics.bins import Bins
from scanflow_serve.runtime.checks.statistics.distances import DISTANCES
from scanflow_serve.runtime.checks.statistics.multiplicity import benjamini_hochberg, holm
from scanflow_serve.runtime.tensors import Array

LEVEL = 0.05  # share of errors among the features that are told to have moved
LEAST_PSI = 0.1  # less is no drift, however many rows make it significant


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found.

    Attributes:
        rows: In the window.
        p: Of all features together, by Holm's smallest.
        statistic: Of each feature, shape (features,); of all together for ``mmd``, shape (1,).
        p_values: Of each feature, adjusted by Holm, shape as `statistic`.
        q_values: Of each feature, by Benjamini and Hochberg: which are worth a look.
    """

    rows: int
    p: float
    statistic: Array
    p_values: Array
    q_values: Array

    def moved(self, level: float = LEVEL) -> int:
        """Return how many features moved; a share *level* of these by chance."""
        return int((self.q_values <= level).sum())

    def state(self) -> dict[str, Array]:
        """Return all of it, as arrays to be kept."""
        return {
            "compared": np.array([self.rows, self.p]),
            "statistic": self.statistic,
            "p_values": self.p_values,
            "q_values": self.q_values,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Array]) -> Comparison:
        """Return the comparison that `state` was taken of."""
        rows, p = state["compared"]
        arrays = (state[name] for name in ("statistic", "p_values", "q_values"))
        return cls(int(rows), float(p), *arrays)


def compare(bins: Bins, after: Array, method: str) -> Comparison:
    """Return how far *after*, counts of shape (features, BINS), is from the reference's.

    Args:
        bins: Of the reference.
        after: As `Bins.counts` returns them, of at least one row.
        method: Of `DISTANCES`.
    """
    distance = DISTANCES[method](bins.before, after, bins.centres)
    p = distance.p
    if method == "psi":
        p = np.where(distance.statistic < LEAST_PSI, 1.0, p)
    adjusted = holm(p)
    smallest, rows = float(adjusted.min()), int(after[0].sum())
    return Comparison(rows, smallest, distance.statistic, adjusted, benjamini_hochberg(p))


class Histograms:
    """Counts of a window as it fills, O(features) whatever its rows.

    Args:
        reference: Rows of normal times, shape (rows, features), finite.
        method: Of `DISTANCES`.
    """

    def __init__(self, reference: Array, method: str) -> None:
        self._method = method
        self._bins = Bins.fit(reference)
        self._counts: Array = np.zeros_like(self._bins.before)

    def add(self, rows: Array) -> None:
        """Count *rows* in, of shape (rows, features).

        Raises:
            ValueError: A value is NaN.
        """
        self._counts = self._counts + self._bins.counts(rows)

    def compare(self) -> Comparison:
        """Return how far the rows counted are from the reference."""
        return compare(self._bins, self._counts, self._method)

    def clear(self) -> None:
        """Begin the next window."""
        self._counts = np.zeros_like(self._bins.before)

    def state(self) -> dict[str, Array]:
        """Return the window's counts, as arrays to be kept; the reference is not among them."""
        return {"counts": self._counts}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._counts = np.array(state["counts"], dtype=np.int64)
