"""A two-sided bet that p-values are no longer uniform: the drift detector of every score.

Two-sided, since an autoencoder's error can fall under drift: a blurred image is easier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scanflow_serve.runtime.checks.statistics.shiryaev_roberts import ShiryaevRoberts
from scanflow_serve.runtime.checks.statistics.telling import TellingRows
from scanflow_serve.runtime.tensors import Array

EPSILONS = np.array([0.3, 0.5, 0.7])  # small for few wild rows, large for many slightly odd ones
MIDDLE = 1

# p-values below are taken for this. It only lowers a factor (the promise is kept), keeps one wild
# row from paging, and costs no delay: half a rank of 200 calibration rows, the fewest that honour
# the default run length.
FLOOR = 1 / (2 * (200 + 1))


def log_factors(p: Array, floor: float) -> Array:
    """Return the log of ε·p^(ε-1) for each ε, shape (rows, 3): each of mean 1 for uniform p.

    Args:
        p: p-values, shape (rows,).
        floor: Smaller p count as this.

    Source:
        Shafer, Shen, Vereshchagin & Vovk (2011), "Test martingales, Bayes factors and p-values".
    """
    log_p = np.log(np.maximum(p, floor))
    result: Array = np.log(EPSILONS) + (EPSILONS - 1) * log_p[:, None]
    return result


class EDetector:
    """Wealth of bets that p crowds near 0, or near 1, from some row on.

    As long as p is uniform its mean is at most the rows seen: it reaches A no sooner than after A
    rows on average. Scores of digits, at A = 10,000: 19,000 rows measured.

    Source:
        Shin, Ramdas & Rinaldo (2023), NEJSDS; Vovk et al. (2021), "Retrain or not retrain:
        conformal test martingales for change-point detection".

    >>> detector = EDetector()
    >>> _ = detector.update(np.full(20, 0.01), [str(row) for row in range(20)])
    >>> detector.wealth > 10_000, detector.change_point, detector.since
    (True, 0, '0')
    """

    def __init__(self, floor: float = FLOOR, rows_per_bet: int = 1) -> None:
        """Begin with nothing.

        Args:
            floor: Smaller p count as this; `Calibration.floor` where the set is larger than 200.
            rows_per_bet: Rows that each p stands for, where they come in blocks.
        """
        self._floor = floor
        self._bets = ShiryaevRoberts(2 * len(EPSILONS), step=rows_per_bet)
        self._telling = (TellingRows(), TellingRows())

    def update(
        self,
        p: Array,
        ids: Sequence[str] = (),
        at: Array | None = None,
        *,
        low: Array | None = None,
    ) -> Array:
        """Bet on each row in turn; return log wealth after each, shape (rows,).

        Args:
            p: p-value of each row, small for high scores, shape (rows,).
            ids: Of the rows, for evidence.
            at: Unix time of each row in s, for evidence.
            low: p-values against low scores where they are not ``1 - p``, as in strict mode.

        Raises:
            ValueError: A p-value lies outside [0, 1], or ids and rows differ in number.
        """
        against_low = 1 - p if low is None else low
        for each in (p, against_low):
            _require_p_values(each)
        factors = [log_factors(each, self._floor) for each in (p, against_low)]
        before = self._bets.seen
        path = self._bets.update(np.concatenate(factors, axis=1), ids, at)
        for side, telling in enumerate(self._telling):
            start = int(self._bets.starts[side * len(EPSILONS) + MIDDLE]) - before
            telling.follow(factors[side][:, MIDDLE], ids, start)
        return path

    @property
    def rows(self) -> int:
        """Return how many rows were seen since the beginning, or since `acknowledge`."""
        return self._bets.rows

    @property
    def wealth(self) -> float:
        """Return the wealth, at most e**700; the alarm is at `expected_run_length`."""
        return self._bets.wealth

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the wealth, -inf before the first row."""
        return self._bets.log_wealth

    @property
    def high(self) -> bool:
        """Return whether scores are rather too high than too low."""
        return self._bets.leader < len(EPSILONS)

    @property
    def change_point(self) -> int | None:
        """Return how many p-values came before the likeliest change; None before the first."""
        return self._bets.change_point

    @property
    def since(self) -> str:
        """Return the id of the row at which the likeliest change began; "" if not known."""
        return self._bets.since

    @property
    def since_at(self) -> float | None:
        """Return the Unix time of that row in s; None if not known."""
        return self._bets.since_at

    @property
    def telling(self) -> tuple[str, ...]:
        """Return the ids of the rows that speak loudest for the change, at most 20."""
        return self._telling[0 if self.high else 1].ids

    def acknowledge(self) -> None:
        """Begin anew from nothing: a person has seen the alarm."""
        self._bets.acknowledge()
        for telling in self._telling:
            telling.clear()

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        parts = dict(self._bets.state())
        for side, telling in zip(("high", "low"), self._telling, strict=True):
            parts |= {f"{side}_{name}": array for name, array in telling.state().items()}
        return parts

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned.

        Raises:
            ValueError: It is the state of something else.
        """
        self._bets.restore(state)
        for side, telling in zip(("high", "low"), self._telling, strict=True):
            telling.restore(_of_side(state, side))

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Add the wealth of replicas, which saw other rows.

        On a copy that is read and thrown away: merged twice, rows would count twice.
        """
        self._bets.merge(others)
        for other in others:
            for side, telling in zip(("high", "low"), self._telling, strict=True):
                telling.merge(_of_side(other, side))


def _of_side(state: Mapping[str, Array], side: str) -> dict[str, Array]:
    prefix = f"{side}_"
    return {name.removeprefix(prefix): a for name, a in state.items() if name.startswith(prefix)}


def _require_p_values(p: Array) -> None:
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        wrong = p[~((p >= 0) & (p <= 1))]
        got = f"shape {p.shape}" if p.ndim != 1 else repr(float(wrong[0]))
        raise ValueError(f"p-values must be one a row in [0, 1], got {got}. Rank finite scores.")
