"""A calibration set for each stratum: hours of the day, devices, shifts.

Traffic with a daily cycle is not exchangeable with a reference of all hours, but may be so within
an hour. A bet stands or falls with the smallest set, since a stratum may last for long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.tensors import Array

LEAST_ROWS = 100  # of a stratum of its own; at 50 rows a row they honour 5,000
HOUR_S = 3600
PARTS = ("rest", "names", "sizes", "scores")  # of what is kept


def hours_of_day(at: Array) -> Array:
    """Return the hour, UTC, of Unix times in s: 0 to 23, int64.

    >>> hours_of_day(np.array([0.0, 3600.0, 86400.0]))
    array([0, 1, 0])
    """
    hours: Array = (np.floor(at / HOUR_S) % 24).astype(np.int64)
    return hours


@dataclass(frozen=True, slots=True)
class StratifiedCalibration:
    """Calibration sets by stratum.

    Attributes:
        strata: Those that have a set of their own.
        rest: Of all rows of the other strata where these are enough, else of all rows. It also
            stands in for strata that the reference does not have.
    """

    strata: Mapping[str, Calibration]
    rest: Calibration

    @classmethod
    def fit(
        cls, scores: Array, strata: Array, least_rows: int = LEAST_ROWS
    ) -> StratifiedCalibration:
        """Return the calibration by *scores* of rows in *strata*, both of shape (rows,).

        Raises:
            ValueError: There is no score, or one is not finite.
        """
        everything = Calibration.fit(scores)
        values = np.asarray(scores, dtype=np.float64)
        keys = np.asarray(strata).astype(np.str_)
        names, counts = np.unique(keys, return_counts=True)
        own = names[counts >= least_rows]
        others = values[~np.isin(keys, own)]
        return cls(
            {str(name): Calibration.fit(values[keys == name]) for name in own},
            Calibration.fit(others) if len(others) >= least_rows else everything,
        )

    @classmethod
    def of_one(cls, scores: Array) -> StratifiedCalibration:
        """Return the calibration by *scores* of rows that are not divided.

        Raises:
            ValueError: As `fit`.
        """
        return cls({}, Calibration.fit(scores))

    def knows(self, strata: Array | None, rows: int) -> Array:
        """Return which of so many rows have a set of their own stratum's, shape (rows,), bool.

        The others are ranked among rows of other strata, which may not be of their kind.
        """
        if strata is None or not self.strata:
            return np.ones(rows, np.bool_)
        return np.isin(np.asarray(strata).astype(np.str_), list(self.strata))

    @property
    def scores(self) -> Array:
        """Return the scores of `rest`, ascending."""
        return self.rest.scores

    @property
    def rows(self) -> int:
        """Return the rows of the smallest set, which bounds the run length that is honoured."""
        return min(each.rows for each in (self.rest, *self.strata.values()))

    @property
    def floor(self) -> float:
        """Return half of the least p-value that every set can tell."""
        return 1 / (2 * (self.rows + 1))

    def p_values(self, scores: Array, strata: Array | None, rng: np.random.Generator) -> Array:
        """Return a randomised p-value of each score among its own stratum, shape (rows,).

        Args:
            strata: Of each row; None where rows are not divided.

        Raises:
            ValueError: A score is NaN.
        """
        p = np.empty(len(scores))
        for calibration, mask in self._sets(strata):
            p[mask] = calibration.p_values(scores[mask], rng)
        return p

    def two_sided_p_values(self, scores: Array, strata: Array | None = None) -> Array:
        """Return what each row is flagged by, among its own stratum, shape (rows,).

        Raises:
            ValueError: A score is NaN.
        """
        p = np.empty(len(scores))
        for calibration, mask in self._sets(strata):
            p[mask] = calibration.two_sided_p_values(scores[mask])
        return p

    def strict_p_values(self, scores: Array, strata: Array | None = None) -> tuple[Array, Array]:
        """Return p-values against high and low scores that hold *given* these sets.

        Raises:
            ValueError: A score is NaN.
        """
        high, low = np.empty(len(scores)), np.empty(len(scores))
        for calibration, mask in self._sets(strata):
            high[mask], low[mask] = calibration.strict_p_values(scores[mask])
        return high, low

    def conservative_p_values(
        self, scores: Array, strata: Array | None = None
    ) -> tuple[Array, Array]:
        """Return p-values against high and against low scores, each at least uniform, not random.

        Raises:
            ValueError: A score is NaN.
        """
        high, low = np.empty(len(scores)), np.empty(len(scores))
        for calibration, mask in self._sets(strata):
            high[mask], low[mask] = calibration.conservative_p_values(scores[mask])
        return high, low

    def places(self, scores: Array, strata: Array | None = None) -> Array:
        """Return the share of its stratum's set that each score is above, shape (rows,), 0 to 1.

        Raises:
            ValueError: A score is NaN.
        """
        high, low = self.conservative_p_values(scores, strata)
        places: Array = (1 + low - high) / 2
        return places

    def state(self) -> dict[str, Array]:
        """Return the scores, as arrays to be kept."""
        sets = list(self.strata.values())
        return {
            "rest": self.rest.scores,
            "names": np.array(list(self.strata), dtype=np.str_),
            "sizes": np.array([each.rows for each in sets], dtype=np.int64),
            "scores": np.concatenate([np.empty(0), *(each.scores for each in sets)]),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Array]) -> StratifiedCalibration:
        """Return the calibration that `state` was taken of."""
        ends = np.cumsum(state["sizes"])
        parts = np.split(state["scores"], ends[:-1]) if len(ends) else []
        strata = {
            str(name): Calibration.fit(part)
            for name, part in zip(state["names"], parts, strict=True)
        }
        return cls(strata, Calibration.fit(state["rest"]))

    def _sets(self, strata: Array | None) -> list[tuple[Calibration, Array | slice]]:
        if strata is None or not self.strata:
            return [(self.rest, slice(None))]
        keys = np.asarray(strata).astype(np.str_)
        names = np.unique(keys)
        return [(self.strata.get(str(name), self.rest), keys == name) for name in names]
