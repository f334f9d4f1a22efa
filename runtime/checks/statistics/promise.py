"""What a calibration set promises of the rows that it flags, and whether others bear it out.

Mean plus three sigma, taken on training rows, flags 5 to 14 % of clean rows: limits are order
statistics, their true rate is known as a distribution, and a third split is held to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import numpy as np

from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.tensors import Array

ALPHA = 0.01  # share of clean rows flagged
LEVELS = (ALPHA, 0.1, 0.5)  # that verification holds p-values to
CONFIDENCE = 0.99  # of verification, over all levels


@dataclass(frozen=True, slots=True)
class OutlierLimits:
    """Scores outside [low, high] are flagged.

    Attributes:
        rate: Share of clean rows flagged, averaged over calibration sets: at most what was asked.
        rate_low: Share that *this* set flags lies above, with 97.5 %.
        rate_high: Share that *this* set flags lies below, with 97.5 %.
    """

    low: float
    high: float
    rate: float
    rate_low: float
    rate_high: float


def flags_each_side(calibration_rows: int, alpha: float) -> int:
    """Return the rank, from either end, of the outermost calibration score that is not flagged.

    Raises:
        ValueError: The set is too small to tell so small a share.

    >>> flags_each_side(600, 0.01)
    3
    """
    # The small number is for (199 + 1)·0.01/2 and its like, whose double may fall below the whole.
    rank = int((calibration_rows + 1) * alpha / 2 + 1e-9)
    if rank < 1:
        raise ValueError(
            f"calibration: rows must be >= {ceil(2 / alpha - 1 - 1e-9)} to flag {alpha:.3g} of "
            f"rows, got {calibration_rows}. Give more reference rows, or flag more."
        )
    return rank


def outlier_limits(calibration: Calibration, alpha: float = ALPHA) -> OutlierLimits:
    """Return the limits outside of which at most a share *alpha* of clean rows lies.

    A row is outside exactly if `Calibration.two_sided_p_values` is at most *alpha*.

    Raises:
        ValueError: The calibration set is too small for *alpha*.

    Source:
        Vovk (2012), "Conditional validity of inductive conformal predictors": given the set, the
        rate is Beta distributed; both tails together are Beta(2k, n + 1 - 2k).
    """
    n = calibration.rows
    rank = flags_each_side(n, alpha)
    return OutlierLimits(
        low=float(calibration.scores[rank - 1]),
        high=float(calibration.scores[n - rank]),
        rate=2 * rank / (n + 1),
        rate_low=beta_quantile(2 * rank, n + 1 - 2 * rank, 0.025),
        rate_high=beta_quantile(2 * rank, n + 1 - 2 * rank, 0.975),
    )


def beta_quantile(a: int, b: int, q: float) -> float:
    """Return the *q*-quantile of Beta(a, b), of whole a and b >= 1, to 1e-12.

    The cdf is a binomial tail, P(Bin(a + b - 1, x) >= a), and is bisected.

    >>> round(beta_quantile(1, 1, 0.3), 9)
    0.3
    """
    trials = a + b - 1
    hits = np.arange(a)
    steps = np.log(trials - hits[:-1]) - np.log(hits[1:])
    log_choose = np.concatenate([[0.0], np.cumsum(steps)])
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        x = (low + high) / 2
        below = np.exp(log_choose + hits * log(x) + (trials - hits) * np.log1p(-x)).sum()
        low, high = (x, high) if 1 - below < q else (low, x)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Band:
    """How many of some rows may be flagged: at least `low`, at most `high`."""

    low: int
    high: int


def flag_band(
    calibration_rows: int, rows: int, alpha: float = ALPHA, confidence: float = CONFIDENCE
) -> Band:
    """Return between which counts the flagged of *rows* clean rows lie, with *confidence*.

    Beta-binomial: the luck of the calibration set and that of the rows, not that of the rows alone.

    Raises:
        ValueError: The calibration set is too small for *alpha*.
    """
    rank = flags_each_side(calibration_rows, alpha)
    a, b = 2 * rank, calibration_rows + 1 - 2 * rank
    k = np.arange(rows)
    ratios = np.log(rows - k) + np.log(k + a) - np.log(k + 1) - np.log(rows - k - 1 + b)
    log_mass = np.concatenate([[0.0], np.cumsum(ratios)])
    mass = np.exp(log_mass - log_mass.max())
    cdf = np.cumsum(mass) / mass.sum()
    tail = (1 - confidence) / 2
    return Band(int(np.searchsorted(cdf, tail)), int(np.searchsorted(cdf, 1 - tail)))


def require_rate(
    where: str, calibration: Calibration, scores: Array, *, alpha: float = ALPHA, seed: int = 0
) -> None:
    """Hold rows that nothing was fitted to, nor calibrated on, to the rates that are promised.

    At *alpha*, which rows are flagged at, and at 10 % and 50 %, which the bets on drift rest on;
    levels that the set is too small for are left out. Clean rows pass with 99 % over all levels.
    Ties are broken at random, so that a score of few values is held to the same rates.

    Args:
        where: Whose scores, for the error.
        calibration: Of the same score.
        scores: Of the rows kept back, shape (rows,).
        alpha: Share of clean rows that is to be flagged.
        seed: Of the draw among ties.

    Raises:
        ValueError: Flagged rows are too few or too many.
    """
    p = calibration.p_values(scores, np.random.default_rng(seed))
    require_uniform(where, p, calibration.rows, alpha=alpha)


def require_uniform(where: str, p: Array, calibration_rows: int, *, alpha: float = ALPHA) -> None:
    """Hold p-values of clean rows to the rates that `require_rate` does.

    Args:
        p: Of rows that nothing was fitted to, nor calibrated on, shape (rows,).
        calibration_rows: Of the set that they are ranked among; of several, the smallest, whose
            luck is the largest.

    Raises:
        ValueError: Flagged rows are too few or too many.
    """
    n = calibration_rows
    levels = [each for each in {alpha, *LEVELS[1:]} if int((n + 1) * each / 2 + 1e-9)]
    for level in sorted(levels):
        band = flag_band(n, len(p), level, 1 - (1 - CONFIDENCE) / len(levels))
        share = flags_each_side(n, level) / (n + 1)
        flagged = int(((p <= share) | (p > 1 - share)).sum())
        if not band.low <= flagged <= band.high:
            raise ValueError(
                f"{where}: of {len(p)} rows kept back, {band.low} to {band.high} must be flagged "
                f"at {level:.3g}, got {flagged}. The reference is not of one kind: give rows in "
                "random order, mark it as ordered, or divide it into strata."
            )
