"""Class balance: a bet that classes no longer come as often as in the reference.

The expected share is the predictive of reference and live rows, not the reference's estimate: a
fixed estimate from 300 rows ran 1,600 rows where 10,000 were promised, the predictive 11,200.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scanflow_serve.runtime.checks.statistics.shiryaev_roberts import ShiryaevRoberts
from scanflow_serve.runtime.checks.statistics.telling import TellingRows
from scanflow_serve.runtime.tensors import Array

# Rows that a bet takes the new shares from, and pseudo-rows of the expected ones among them.
# Median delay of 300 streams, 600 reference rows and 200 clean ones: 30/70 -> 60/40 is seen after
# 62 rows by the first alone, 51 by both; 10 -> 30 % after 88 and 83; a vanished class, 143 and 145.
RECENT = np.array([100, 50])
SHRINK = np.array([20, 10])
PRIOR = 0.5  # of each class, Krichevsky-Trofimov


class ClassBalance:
    """Wealth of bets that the classes answered come in other shares from some row on.

    Each row pays q(y)/π(y) for its class y: q from the last rows, π expected of the variant that
    answered. While rows are exchangeable with the reference its mean is at most the rows seen.

    Source:
        Shin, Ramdas & Rinaldo (2023), NEJSDS, for the sum; Krichevsky & Trofimov (1981) for π.

    >>> balance = ClassBalance({"cnn": np.array([500, 500])})
    >>> _ = balance.update(np.zeros(60, int), "cnn")
    >>> balance.wealth > 10_000
    True
    """

    def __init__(self, reference: Mapping[str, Array]) -> None:
        """Begin with nothing.

        Args:
            reference: How many rows of each class each variant answers on rows that the model was
                not trained on, shape (classes,), by variant id.

        Raises:
            ValueError: There is no variant, or they differ in their number of classes.
        """
        counts = {name: np.asarray(each, dtype=np.float64) for name, each in reference.items()}
        if len({each.shape for each in counts.values()}) != 1:
            raise ValueError(
                "balance: reference must have one count for each class of each variant, got shapes "
                f"{[each.shape for each in counts.values()]}. Count with the model's classes."
            )
        self._reference = counts
        self.classes = len(next(iter(counts.values())))
        self._bets = ShiryaevRoberts(len(RECENT))
        self._telling = TellingRows()
        self._begin()

    def _begin(self) -> None:
        self._live = {name: np.zeros(self.classes) for name in self._reference}
        self._recent = np.empty(0, np.int64)

    def update(
        self, classes: Array, variant: str, ids: Sequence[str] = (), at: Array | None = None
    ) -> Array:
        """Bet on each row in turn, exactly as one by one; return log wealth after each.

        Args:
            classes: Index of the class answered to each row, shape (rows,), int.
            variant: That answered.
            ids: Of the rows, for evidence.
            at: Unix time of each row in s, for evidence.

        Raises:
            ValueError: The variant is not in the reference, or a class is not.
        """
        self._require(classes, variant)
        expected = self._expected(classes, variant)
        shares = self._recent_shares(classes, expected)
        factors = np.log(shares) - np.log(expected)[:, None]
        before = self._bets.rows
        path = self._bets.update(factors, ids, at)
        self._telling.follow(factors[:, 0], ids, int(self._bets.starts[0]) - before)
        self._live[variant] += np.bincount(classes, minlength=self.classes)
        self._recent = np.concatenate([self._recent, classes])[-RECENT.max() :]
        return path

    def _require(self, classes: Array, variant: str) -> None:
        if variant not in self._reference:
            raise ValueError(
                f"balance: variant must be one of {sorted(self._reference)}, got {variant!r}. "
                "Fit the check to what it answers."
            )
        wrong = classes[(classes < 0) | (classes >= self.classes)]
        if len(wrong):
            raise ValueError(
                f"balance: class must be in [0, {self.classes}), got {int(wrong[0])}. "
                "Leave unknown classes to integrity."
            )

    def _expected(self, classes: Array, variant: str) -> Array:
        """Return the share expected of each row's class, of the rows before it."""
        known = self._reference[variant] + self._live[variant]
        earlier = _equal_before(classes, np.zeros(len(classes), np.int64))
        shares: Array = (known[classes] + earlier + PRIOR) / (
            known.sum() + np.arange(len(classes)) + PRIOR * self.classes
        )
        return shares

    def _recent_shares(self, classes: Array, expected: Array) -> Array:
        """Return the shares of each row's class among the last rows before it, (rows, bets)."""
        joined = np.concatenate([self._recent, classes])
        row = np.arange(len(joined))
        live = slice(len(self._recent), None)
        shares = np.empty((len(classes), len(RECENT)))
        for bet, (most, pseudo) in enumerate(zip(RECENT, SHRINK, strict=True)):
            counts = _equal_before(joined, np.maximum(row - most, 0))[live]
            shares[:, bet] = (counts + pseudo * expected) / (np.minimum(row, most)[live] + pseudo)
        return shares

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
    def change_point(self) -> int | None:
        """Return how many rows came before the likeliest change; None before the first."""
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
        return self._telling.ids

    def expected(self, variant: str) -> Array:
        """Return the shares of the classes in the reference of *variant*, shape (classes,)."""
        counts = self._reference[variant] + PRIOR
        shares: Array = counts / counts.sum()
        return shares

    @property
    def recent(self) -> Array:
        """Return the classes' counts among the last 100 rows, shape (classes,), int64."""
        return np.bincount(self._recent, minlength=self.classes)

    def acknowledge(self) -> None:
        """Begin anew from nothing: a person has seen the alarm; what is expected stays."""
        self._bets.acknowledge()
        self._telling.clear()
        self._begin()

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays; the reference is not among it."""
        parts = self._bets.state() | self._telling.state() | {"recent": self._recent.copy()}
        return parts | {f"live/{name}": counts.copy() for name, counts in self._live.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._bets.restore(state)
        self._telling.restore(state)
        self._recent = np.array(state["recent"], dtype=np.int64)
        for name in self._live.keys() & {key.removeprefix("live/") for key in state}:
            self._live[name] = np.array(state[f"live/{name}"], dtype=np.float64)

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Add the wealth of replicas, which saw other rows.

        On a copy that is read and thrown away: merged twice, rows would count twice.
        """
        self._bets.merge(others)
        for other in others:
            self._telling.merge(other)


def _equal_before(classes: Array, since: Array) -> Array:
    """Return how many rows from *since* up to before each row have its class, shape (rows,)."""
    span = len(classes) + 1
    row = np.arange(len(classes))
    keys = np.sort(classes * span + row)
    upto = np.searchsorted(keys, classes * span + row)
    counts: Array = upto - np.searchsorted(keys, classes * span + since)
    return counts
