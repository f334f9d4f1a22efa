"""The rows that speak loudest for a change: a bounded list, kept while rows stream by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scanflow_serve.runtime.tensors import Array

KEPT = 20


class TellingRows:
    """The rows of largest contribution since the last `clear`.

    >>> rows = TellingRows(most=2)
    >>> rows.offer(np.array([0.5, 3.0, 1.0]), ["a", "b", "c"])
    >>> rows.ids
    ('b', 'c')
    """

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._contributions = np.empty(0)
        self._ids: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids kept, the most telling first."""
        return self._ids

    def offer(self, contributions: Array, ids: Sequence[str]) -> None:
        """Keep those rows whose contribution is > 0 and among the largest; of equals the earliest.

        Args:
            contributions: Of each row, shape (rows,).
            ids: Of each row.
        """
        full = len(self._ids) == self._most
        least = self._contributions[-1] if full else 0.0
        worth = np.flatnonzero(contributions > least)
        if not len(worth):
            return
        among = np.concatenate([self._contributions, contributions[worth]])
        names = [*self._ids, *(ids[int(row)] for row in worth)]
        first = np.argsort(-among, kind="stable")[: self._most]
        self._contributions = among[first]
        self._ids = tuple(names[int(row)] for row in first)

    def follow(self, contributions: Array, ids: Sequence[str], start: int) -> None:
        """Offer the rows of a bet that began anew at row *start* of these; before them, if < 0."""
        if start >= 0:
            self.clear()
        if len(ids):
            self.offer(contributions[max(start, 0) :], ids[max(start, 0) :])

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        return {
            "telling_ids": np.array(self._ids, dtype=np.str_),
            "telling": self._contributions.copy(),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._contributions = np.array(state["telling"], dtype=np.float64)
        self._ids = tuple(str(each) for each in state["telling_ids"])

    def merge(self, other: Mapping[str, Array]) -> None:
        """Keep the most telling of both."""
        self.offer(other["telling"], [str(each) for each in other["telling_ids"]])
