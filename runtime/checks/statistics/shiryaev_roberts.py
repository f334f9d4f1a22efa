"""Several bets that something has changed, at any row so far: Shiryaev-Roberts sums.

In logarithms: a wealth of 1e4 raises the alarm, but drift that nobody acknowledges would overflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, inf, isnan, log, nan

import numpy as np

from scanflow_serve.runtime.tensors import Array

MOST = 700.0  # exp of more overflows


class ShiryaevRoberts:
    """R ← (R + step)·f for each of several bets; their mean is the wealth.

    While E[f | past] <= 1 the mean of R is at most the rows seen, so that wealth reaches A no
    sooner than after A rows on average. R adds up the bets that began at each row; the largest of
    them (CUSUM) tells where the change is likeliest.

    Source:
        Shin, Ramdas & Rinaldo (2023), "E-detectors: a nonparametric framework for sequential
        change detection", NEJSDS, definitions 2.2 and 2.6.

    >>> bets = ShiryaevRoberts(bets=1)
    >>> _ = bets.update(np.log([[0.5], [0.5], [4.0], [4.0]]))
    >>> round(bets.wealth, 9), bets.change_point  # 0.5, 0.75, 7, 32: from the third row on
    (32.0, 2)
    """

    def __init__(self, bets: int, step: int = 1) -> None:
        """Begin with nothing.

        Args:
            bets: How many run side by side.
            step: Rows that each factor stands for, 1 for a factor a row.
        """
        self.bets = bets
        self.step = step
        self._begin()

    def _begin(self) -> None:
        self._seen = 0  # factors
        self._rows = 0
        self._log_sum = np.full(self.bets, -inf)
        self._log_best = np.full(self.bets, -inf)  # of the one bet that began at `_starts`
        self._starts = np.zeros(self.bets, np.int64)
        self._ids = [""] * self.bets
        self._at = np.full(self.bets, nan)

    def update(
        self,
        log_factors: Array,
        ids: Sequence[str] = (),
        at: Array | None = None,
        step: int | None = None,
    ) -> Array:
        """Count the factors in, exactly as one by one; return log wealth after each, shape (n,).

        Args:
            log_factors: Logarithms of what each bet pays, shape (n, bets), finite.
            ids: Of the rows, to tell where a change began; none by default.
            at: Unix time of each row in s; none by default.
            step: Rows that each of these factors stands for, where it is not the usual.

        Raises:
            ValueError: A factor is not finite, or ids and factors differ in number.
        """
        self._require(log_factors, ids)
        if not len(log_factors):
            return np.empty(0)
        sums = np.cumsum(log_factors, axis=0)
        self._restart(sums, ids, at)
        # R_t = S_t·(R_0 + step + Σ_{s<t} step/S_s), S the products of factors: no row by row.
        rows = step or self.step
        earlier = np.empty_like(sums)
        earlier[0] = np.logaddexp(self._log_sum, log(rows))
        earlier[1:] = log(rows) - sums[:-1]
        paths = sums + np.logaddexp.accumulate(earlier, axis=0)
        self._log_sum = paths[-1]
        self._seen += len(sums)
        self._rows += rows * len(sums)
        mean: Array = np.logaddexp.reduce(paths, axis=1) - log(self.bets)
        return mean

    def _require(self, log_factors: Array, ids: Sequence[str]) -> None:
        if log_factors.ndim != 2 or log_factors.shape[1] != self.bets:
            raise ValueError(
                f"factors must be of shape (rows, {self.bets}), got {log_factors.shape}. "
                "Give one for each bet."
            )
        if not np.isfinite(log_factors).all():
            raise ValueError("factors must be finite and > 0, got others. Clip what they stake.")
        if len(ids) not in (0, len(log_factors)):
            raise ValueError(
                f"ids must be as many as rows = {len(log_factors)}, got {len(ids)}. "
                "Give one for each row, or none."
            )

    def _restart(self, sums: Array, ids: Sequence[str], at: Array | None) -> None:
        """Move each bet's likeliest beginning to where the product from there on is largest."""
        before = np.empty_like(sums)
        before[0] = -np.maximum(self._log_best, 0.0)
        before[1:] = sums[:-1]
        lowest = before.argmin(axis=0)
        anew = (lowest > 0) | (self._log_best < 0)  # of equals the earliest
        self._log_best = sums[-1] - before[lowest, np.arange(self.bets)]
        self._starts = np.where(anew, self._seen + lowest, self._starts)
        for bet in np.flatnonzero(anew):
            self._ids[bet] = ids[lowest[bet]] if len(ids) else ""
            self._at[bet] = at[lowest[bet]] if at is not None else nan

    @property
    def rows(self) -> int:
        """Return how many rows were seen since the beginning, or since `acknowledge`."""
        return self._rows

    @property
    def seen(self) -> int:
        """Return how many factors were."""
        return self._seen

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the wealth, -inf before the first row."""
        return float(np.logaddexp.reduce(self._log_sum)) - log(self.bets)

    @property
    def wealth(self) -> float:
        """Return the mean of the bets' sums, at most e**700."""
        return exp(min(self.log_wealth, MOST))

    @property
    def leader(self) -> int:
        """Return which bet has won most."""
        return int(self._log_sum.argmax())

    @property
    def starts(self) -> Array:
        """Return where each bet's likeliest change is: factors before it, shape (bets,), int64."""
        return self._starts

    @property
    def change_point(self) -> int | None:
        """Return how many factors came before the likeliest change; None before the first."""
        return int(self._starts[self.leader]) if self._seen else None

    @property
    def since(self) -> str:
        """Return the id of the row at which the likeliest change began; "" if not known."""
        return self._ids[self.leader]

    @property
    def since_at(self) -> float | None:
        """Return the Unix time of that row in s; None if not known."""
        at = float(self._at[self.leader])
        return None if isnan(at) else at

    def acknowledge(self) -> None:
        """Begin anew from nothing."""
        self._begin()

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        return {
            "seen": np.array([self._seen, self._rows]),
            "log_sum": self._log_sum.copy(),
            "log_best": self._log_best.copy(),
            "starts": self._starts.copy(),
            "ids": np.array(self._ids, dtype=np.str_),
            "at": self._at.copy(),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned.

        Raises:
            ValueError: It is the state of other bets.
        """
        if state["log_sum"].shape != (self.bets,):
            raise ValueError(
                f"state: there must be {self.bets} bets, got {state['log_sum'].shape}. "
                "Delete the state of the check, or rebase it."
            )
        self._seen, self._rows = (int(each) for each in state["seen"])
        self._log_sum = np.array(state["log_sum"], dtype=np.float64)
        self._log_best = np.array(state["log_best"], dtype=np.float64)
        self._starts = np.array(state["starts"], dtype=np.int64)
        self._ids = [str(each) for each in state["ids"]]
        self._at = np.array(state["at"], dtype=np.float64)

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Add the sums of replicas, which saw other rows; the change is where its bet won most.

        On a copy that is read and thrown away: merged twice, rows would count twice.
        """
        for other in others:
            larger = other["log_best"] > self._log_best
            self._starts = np.where(larger, other["starts"], self._starts)
            self._at = np.where(larger, other["at"], self._at)
            for bet in np.flatnonzero(larger):
                self._ids[bet] = str(other["ids"][bet])
            self._log_best = np.maximum(self._log_best, other["log_best"])
            self._log_sum = np.logaddexp(self._log_sum, other["log_sum"])
            self._seen += int(other["seen"][0])
            self._rows += int(other["seen"][1])
