"""Whether rows resemble their neighbours in time, and for how long.

Every promise here is one about exchangeable rows. Where a row says what the next will be, bets win
by the row what only the first of a stretch has told: alarms come too often.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from scanflow_serve.runtime.checks.statistics.distances import chi_squared_tail
from scanflow_serve.runtime.tensors import Array

LAGS = 10
LEAST_ROWS = 50  # of a test: below, its tail is not that of the table
LEAST_PAIRS = 10  # neighbours expected that are both uncommon: two by chance are no correlation
LEVEL = 1e-3  # a clean reference is called dependent once in a thousand
APART = 5  # blocks of so many correlation times: AR(1) of 0.9 leaves 0.05 between their means
ROUND = 10  # rows, of the blocks that are suggested


@dataclass(frozen=True, slots=True)
class Dependence:
    """What a sequence of rows says of itself.

    Attributes:
        rows: How many there are.
        correlation: Of neighbours.
        time: Rows that tell as much as one would alone; 1 of independent ones.
        found: Whether chance alone would hardly bring it.
    """

    rows: int
    correlation: float
    time: float
    found: bool

    @property
    def block(self) -> int:
        """Return the rows of a block whose mean says nearly nothing of the next one's."""
        return ROUND * ceil(APART * self.time / ROUND)


def dependence(values: Array, level: float = LEVEL) -> Dependence:
    """Return how far each of *values* depends on those before it.

    Args:
        values: In order of time, shape (rows,); ranks, so that no outlier decides.
        level: Chance that independent rows are called dependent.

    Source:
        Ljung & Box (1978), "On a measure of lack of fit in time series models"; the
        correlation time is cut where Geyer (1992), "Practical Markov chain Monte Carlo", cuts it.

    >>> rng = np.random.default_rng(0)
    >>> dependence(rng.random(600)).found, dependence(np.repeat(rng.random(60), 10)).found
    (False, True)
    """
    rows = len(values)
    if rows < LEAST_ROWS or _uncommon(values) ** 2 < LEAST_PAIRS * rows:
        return Dependence(rows, 0.0, 1.0, False)
    found = _autocorrelations(values)
    lags = np.arange(1, LAGS + 1)
    statistic = rows * (rows + 2) * (found[1 : LAGS + 1] ** 2 / (rows - lags)).sum()
    return Dependence(
        rows=rows,
        correlation=float(found[1]),
        time=_correlation_time(found),
        found=bool(chi_squared_tail(np.array([statistic]), np.array([LAGS]))[0] < level),
    )


def _uncommon(values: Array) -> int:
    """Return how many of *values* are not the commonest."""
    _, counts = np.unique(values, return_counts=True)
    return len(values) - int(counts.max())


def _autocorrelations(values: Array) -> Array:
    """Return the correlation at each lag, shape (rows,), 1 at lag 0."""
    rows = len(values)
    centred = values - values.mean()
    spectrum = np.fft.rfft(centred, 2 * rows)
    sums = np.fft.irfft(np.abs(spectrum) ** 2, 2 * rows)[:rows]
    return np.asarray(sums / sums[0], np.float64)


def _correlation_time(found: Array) -> float:
    """Return 1 + twice the correlations up to where pairs of neighbouring lags cease to add."""
    even = len(found) // 2 * 2
    pairs = found[:even].reshape(-1, 2).sum(axis=1)
    falling = np.flatnonzero(pairs <= 0)
    upto = int(falling[0]) if len(falling) else len(pairs)
    return max(1.0, float(2 * pairs[:upto].sum() - 1))
