"""Do limits cry as rarely as they say; and what a test that looks up only does not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from detectors import INPUT, fitted
from numpy.typing import NDArray
from parallel import Workers
from traffic import Random, Rows, blurred, bundled, noisy, turned
from window_power import reference

from scanflow_serve.runtime.checks.rows import Reference
from scanflow_serve.runtime.checks.scored import ANY, observed
from scanflow_serve.runtime.checks.statistics.bins import Bins
from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.distances import DISTANCES

LEVEL = 0.05
WINDOWS = (50, 100, 200, 500, 1000)
CALIBRATED, JUDGED = 600, 600  # rows
ONE_SIDED, TWO_SIDED = 1.645, 1.960  # normal quantiles of 95 and 97.5 %
SEEN = 500  # rows of a window
CHANGES: dict[str, Callable[[Rows, Random], Rows]] = {
    "turned 10 degrees": lambda rows, _: turned(rows, 10),
    "out of focus": lambda rows, _: blurred(rows, 0.6),
    "paler by a third": lambda rows, _: rows * np.float32(2 / 3),
    "heavy noise": lambda rows, random: noisy(rows, random, 0.4),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """Share of clean rows or windows flagged, and between which shares it should lie."""

    name: str
    rate: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        """Return whether it does."""
        return self.low <= self.rate <= self.high


@dataclass(frozen=True, slots=True)
class Sides:
    """Share of windows found changed, by a test that looks up only and by one of both sides."""

    change: str
    up: float
    both: float


@dataclass(frozen=True, slots=True)
class Split:
    """What fresh splits of digits gave: shares of rows flagged, and windows found changed."""

    flagged: dict[float, float]
    up: dict[str, bool]
    both: dict[str, bool]


def splits(workers: Workers, count: int, method: str) -> tuple[list[Rate], list[Sides]]:
    """Return the share of clean digits flagged at 5 % and 1 %, and what looking up only misses."""
    found = workers.map(split, [(number, method) for number in range(count)])
    rates = [
        Rate(
            f"rows flagged at {alpha:.0%}",
            float(np.mean([each.flagged[alpha] for each in found])),
            *_within(alpha, count),
        )
        for alpha in (0.05, 0.01)
    ]
    sides = [
        Sides(
            change,
            float(np.mean([each.up[change] for each in found])),
            float(np.mean([each.both[change] for each in found])),
        )
        for change in CHANGES
    ]
    return rates, sides


def split(job: tuple[int, str]) -> Split:
    """Return what one fresh split gives: (number, method)."""
    number, method = job
    digits = bundled("digits")
    random = np.random.default_rng([number, 33])
    score = fitted(method, reference(digits, number), number)

    def errors(rows: Rows) -> NDArray[np.float64]:
        return score.score(observed(Reference({INPUT: rows}), ANY))

    calibration = Calibration.fit(errors(digits.draw(random, CALIBRATED)))
    p = calibration.two_sided_p_values(errors(digits.draw(random, JUDGED)))
    moved = {
        name: _moved(calibration, errors(change(digits.draw(random, SEEN), random)), random)
        for name, change in CHANGES.items()
    }
    return Split(
        {alpha: float((p <= alpha).mean()) for alpha in (0.05, 0.01)},
        {name: z > ONE_SIDED for name, z in moved.items()},
        {name: abs(z) > TWO_SIDED for name, z in moved.items()},
    )


def _moved(calibration: Calibration, scores: NDArray[np.float64], random: Random) -> float:
    """Return how far up the ranks of *scores* lie, in standard deviations: Wilcoxon's rank sum."""
    p = calibration.p_values(scores, random)
    spread = sqrt((1 / len(p) + 1 / calibration.rows) / 12)
    return float((0.5 - p.mean()) / spread)


def _within(alpha: float, count: int) -> tuple[float, float]:
    """Return two standard errors around *alpha*, of the mean of *count* beta-binomial shares."""
    n, m = CALIBRATED, JUDGED
    error = sqrt(alpha * (1 - alpha) / m * (1 + (m - 1) / (n + 2)) / count)
    return alpha - 2 * error, alpha + 2 * error


def window_rates(repeats: int) -> list[Rate]:
    """Return the share of clean windows of normal values with p <= 5 %, each a feature."""
    random = np.random.default_rng(37)
    bins = Bins.fit(random.normal(size=(1000, repeats)))
    found = []
    for rows in WINDOWS:
        after = bins.counts(random.normal(size=(rows, repeats)))
        for method, distance in DISTANCES.items():
            p = distance(bins.before, after, bins.centres).p
            share = float((p <= LEVEL).mean())
            found.append(Rate(f"{method}, windows of {rows}", share, 0.03, 0.07))
    return found
