"""A score's calibration set, and the conformal p-value that it makes of any other score.

p is uniform for rows that are exchangeable with the calibration rows, whatever the score: every
score has the same unit, and "1 %" means one per cent. NaN has no rank and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from scanflow_serve.runtime.tensors import Array

STRICT_DELTA = 0.01  # chance over calibration sets that a strict p-value is too small


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores of held-out reference rows.

    Attributes:
        scores: Shape (rows,), float64, ascending.
    """

    scores: Array

    @classmethod
    def fit(cls, scores: Array) -> Calibration:
        """Return the calibration by *scores* of rows that nothing was fitted to.

        Args:
            scores: Shape (rows,), in any order.

        Raises:
            ValueError: There is none, or one is not finite.
        """
        given = np.asarray(scores, dtype=np.float64)
        if given.ndim != 1 or not len(given):
            raise ValueError(
                f"calibration: scores must be one number a row, got shape {given.shape}. "
                "Give at least one reference row."
            )
        if not np.isfinite(given).all():
            row = int(np.flatnonzero(~np.isfinite(given))[0])
            raise ValueError(
                f"calibration: scores must be finite, got {given[row]} in row {row}. "
                "Clean the reference, or mend the score."
            )
        ordered = np.sort(given)
        ordered.flags.writeable = False
        return cls(ordered)

    @property
    def rows(self) -> int:
        """Return how many scores there are."""
        return len(self.scores)

    @property
    def floor(self) -> float:
        """Return half of the least p-value that a rank can tell, below which bets are clipped."""
        return 1 / (2 * (self.rows + 1))

    def p_values(self, scores: Array, rng: np.random.Generator) -> Array:
        """Return a randomised p-value of each score, shape (rows,), in (0, 1]: uniform, ties or no.

        Small for high scores; one less it is as good for low ones.

        Raises:
            ValueError: A score is NaN.

        Source:
            Vovk, Gammerman & Shafer (2005), "Algorithmic Learning in a Random World", eq. 2.20.
        """
        above, equal = self._ranks(scores)
        p: Array = (above + (1 - rng.random(len(above))) * (equal + 1)) / (self.rows + 1)
        return p

    def conservative_p_values(self, scores: Array) -> tuple[Array, Array]:
        """Return p-values against high and against low scores, each at least uniform, not random.

        Raises:
            ValueError: A score is NaN.
        """
        above, equal = self._ranks(scores)
        below = self.rows - above - equal
        return (above + equal + 1) / (self.rows + 1), (below + equal + 1) / (self.rows + 1)

    def two_sided_p_values(self, scores: Array) -> Array:
        """Return twice the smaller conservative p-value, at most 1: what a row is flagged by.

        Raises:
            ValueError: A score is NaN.
        """
        high, low = self.conservative_p_values(scores)
        p: Array = np.minimum(1.0, 2 * np.minimum(high, low))
        return p

    def strict_p_values(self, scores: Array, delta: float = STRICT_DELTA) -> tuple[Array, Array]:
        """Return p-values against high and low scores that hold *given* this calibration set.

        For all but *delta* of calibration sets they are at least uniform whatever comes, so that
        any run length is honoured; the width of the band costs delay.

        Raises:
            ValueError: A score is NaN.

        Source:
            Massart (1990), "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality".
        """
        above, equal = self._ranks(scores)
        band = sqrt(log(2 / delta) / (2 * self.rows))
        high = (above + equal) / self.rows + band
        low = 1 - above / self.rows + band
        return np.minimum(1.0, high), np.minimum(1.0, low)

    def state(self) -> dict[str, Array]:
        """Return the scores, as an array to be kept."""
        return {"scores": self.scores}

    @classmethod
    def restore(cls, state: Mapping[str, Array]) -> Calibration:
        """Return the calibration that `state` was taken of."""
        return cls.fit(state["scores"])

    def _ranks(self, scores: Array) -> tuple[Array, Array]:
        """Return how many calibration scores are above, and how many equal, each of *scores*."""
        given = np.asarray(scores, dtype=np.float64)
        if np.isnan(given).any():
            row = int(np.flatnonzero(np.isnan(given))[0])
            raise ValueError(
                f"scores must be numbers, got nan in row {row}. "
                "Leave out the rows that integrity flags, or repair them."
            )
        upto = np.searchsorted(self.scores, given, side="right")
        return self.rows - upto, upto - np.searchsorted(self.scores, given, side="left")
