"""Tumbling windows held against the reference, and a bet on each that nothing has changed.

Windows explain: which features moved, how far. Where a policy names a window method they page, too:
one p-value a window, bet on as any other, in the same budget of false alarms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Protocol

import numpy as np

from scanflow_serve.runtime.checks.statistics.comparison import Comparison, Histograms
from scanflow_serve.runtime.checks.statistics.distances import DISTANCES
from scanflow_serve.runtime.checks.statistics.edetector import EPSILONS, log_factors
from scanflow_serve.runtime.checks.statistics.mmd import MeanDiscrepancy
from scanflow_serve.runtime.checks.statistics.shiryaev_roberts import ShiryaevRoberts
from scanflow_serve.runtime.tensors import Array

METHODS = (*DISTANCES, "mmd")
WINDOW = 200  # rows
LEAST_ROWS = 50  # of a window that its age closes: below, tails are not those of the tables

# Tails of approximate p-values are not trusted below: at a run length of 10,000 it takes two
# windows of 200 rows to page, however wild.
FLOOR = 5e-4


class Window(Protocol):
    """Rows that gather, to be held against the reference."""

    def add(self, rows: Array) -> None:
        """Count *rows* in, of shape (rows, features)."""
        ...

    def compare(self) -> Comparison:
        """Return how far the rows counted are from the reference."""
        ...

    def clear(self) -> None:
        """Begin the next window."""
        ...

    def state(self) -> dict[str, Array]:
        """Return the rows counted, as arrays to be kept."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        ...


class WindowDetector:
    """Wealth of bets that windows no longer come from the reference.

    R ← (R + rows)·ε·p^(ε-1) at the end of each window; between ends nothing changes.

    Source:
        CHECKS 5.2, point 9; see `ShiryaevRoberts`.

    >>> rng = np.random.default_rng(0)
    >>> detector = WindowDetector(rng.normal(size=(600, 4)), "ks", window=100)
    >>> _ = detector.update(rng.normal(1.0, size=(400, 4)))
    >>> detector.wealth > 10_000, detector.change_point
    (True, 0)
    """

    def __init__(
        self,
        reference: Array,
        method: str = "ks",
        *,
        window: int = WINDOW,
        max_age_s: float | None = None,
        seed: int = 0,
    ) -> None:
        """Begin with nothing.

        Args:
            reference: Rows of normal times, shape (rows, features), finite.
            method: Of `METHODS`.
            window: Rows of a window.
            max_age_s: Close a window of at least 50 rows at this age, in s; never by default.
            seed: Of permutations.

        Raises:
            ValueError: The method is unknown, the window or the reference too small, or the
                reference no numbers.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
        if window < LEAST_ROWS:
            raise ValueError(
                f"window must be >= {LEAST_ROWS} rows, got {window}. Smaller ones tell nothing."
            )
        if len(reference) < LEAST_ROWS:
            raise ValueError(
                f"reference must have >= {LEAST_ROWS} rows, got {len(reference)}. "
                "Give more rows of normal times."
            )
        self._most = window
        self._max_age_s = max_age_s
        self._window: Window = (
            MeanDiscrepancy(reference, window, seed)
            if method == "mmd"
            else Histograms(reference, method)
        )
        self._bets = ShiryaevRoberts(len(EPSILONS), step=window)
        self.comparison: Comparison | None = None
        self._begin()

    def _begin(self) -> None:
        self._rows = 0
        self._id, self._at = "", nan
        self._window.clear()

    def update(self, rows: Array, ids: Sequence[str] = (), at: Array | None = None) -> Array:
        """Count rows in, of shape (rows, features); return log wealth after each, shape (rows,).

        Args:
            rows: In order.
            ids: Of the rows, for evidence.
            at: Unix time of each row in s, for evidence and `max_age_s`.

        Raises:
            ValueError: A value is NaN, or ids and rows differ in number.
        """
        if len(ids) not in (0, len(rows)):
            raise ValueError(
                f"ids must be as many as rows = {len(rows)}, got {len(ids)}. "
                "Give one for each row, or none."
            )
        path = np.empty(len(rows))
        start = 0
        while start < len(rows):
            stop = start + self._takes(at[start:] if at is not None else None, len(rows) - start)
            self._add(rows[start:stop], ids[start:stop], None if at is None else at[start:stop])
            path[start:stop] = self.log_wealth
            if self._full(None if at is None else float(at[stop - 1])):
                self._close()
                path[stop - 1] = self.log_wealth
            start = stop
        return path

    def _takes(self, at: Array | None, rows: int) -> int:
        """Return how many of the next rows go into this window."""
        takes = min(rows, self._most - self._rows)
        if self._max_age_s is not None and at is not None:
            begun = self._at if self._rows else at[0]
            old = np.flatnonzero(at[:takes] - begun >= self._max_age_s)
            least = max(LEAST_ROWS - self._rows, 1)
            if len(old):
                takes = min(takes, max(int(old[0]) + 1, least))
        return takes

    def _full(self, at: float | None) -> bool:
        aged = self._max_age_s is not None and at is not None and at - self._at >= self._max_age_s
        return self._rows >= self._most or (aged and self._rows >= LEAST_ROWS)

    def _add(self, rows: Array, ids: Sequence[str], at: Array | None) -> None:
        if not self._rows:
            self._id = ids[0] if len(ids) else ""
            self._at = float(at[0]) if at is not None else nan
        self._window.add(rows)
        self._rows += len(rows)

    def _close(self) -> None:
        self.comparison = self._window.compare()
        factors = log_factors(np.array([self.comparison.p]), FLOOR)
        self._bets.update(factors, [self._id], np.array([self._at]), step=self._rows)
        self._begin()

    @property
    def rows(self) -> int:
        """Return how many rows closed windows had since the beginning, or `acknowledge`."""
        return self._bets.rows

    @property
    def gathered(self) -> int:
        """Return how many rows the open window has."""
        return self._rows

    @property
    def p_val(self) -> float | None:
        """Return the p-value of the last window; None before the first was closed."""
        return None if self.comparison is None else self.comparison.p

    @property
    def wealth(self) -> float:
        """Return the wealth, at most e**700; the alarm is at `expected_run_length`."""
        return self._bets.wealth

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the wealth, -inf before the first window was closed."""
        return self._bets.log_wealth

    @property
    def change_point(self) -> int | None:
        """Return how many windows came before the likeliest change; None before the first."""
        return self._bets.change_point

    @property
    def since(self) -> str:
        """Return the id of the first row of the window at which it began; "" if not known."""
        return self._bets.since

    @property
    def since_at(self) -> float | None:
        """Return the Unix time of that row in s; None if not known."""
        return self._bets.since_at

    @property
    def telling(self) -> tuple[str, ...]:
        """Return nothing: a window's histogram is of all its rows alike."""
        return ()

    def acknowledge(self) -> None:
        """Begin anew from nothing: a person has seen the alarm; the reference stays."""
        self._bets.acknowledge()
        self.comparison = None
        self._begin()

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays; the reference is not among it."""
        parts = {f"window/{name}": array for name, array in self._window.state().items()}
        parts |= {
            "open": np.array([self._rows, self._at]),
            "open_id": np.array(self._id, dtype=np.str_),
        }
        last = {} if self.comparison is None else self.comparison.state()
        return self._bets.state() | parts | last

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._bets.restore(state)
        prefix = "window/"
        self._window.restore(
            {k.removeprefix(prefix): array for k, array in state.items() if k.startswith(prefix)}
        )
        self._rows, self._at = int(state["open"][0]), float(state["open"][1])
        self._id = str(state["open_id"])
        self.comparison = Comparison.restore(state) if "compared" in state else None

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Add the wealth of replicas, which saw other rows.

        On a copy that is read and thrown away: merged twice, rows would count twice.
        """
        self._bets.merge(others)
