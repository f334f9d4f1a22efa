"""Windows of rows held against the reference, as a member of a portfolio: `WindowDetector`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.caution import caution
from scanflow_serve.runtime.checks.members import Ranked, under
from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting, flat
from scanflow_serve.runtime.checks.statistics.dependence import LEVEL, dependence
from scanflow_serve.runtime.checks.statistics.windows import WindowDetector
from scanflow_serve.runtime.tensors import Array

MOST_FEATURES = 64  # of an image, as many pixels evenly spread
MOST_ROWS = 1000  # of the reference: with the features above 0.25 MB of state


class WindowMember:
    """Bets that windows no longer come from the reference.

    Args:
        method: Of `statistics.windows.METHODS`.
        window: Rows of a window.
        max_age_s: Close one of at least 50 rows at this age, in s; None: only when it is full.

    Raises:
        ValueError: The inputs are text.
    """

    of_outputs = False

    def __init__(
        self, setting: Setting, method: str, window: int, max_age_s: float | None = None
    ) -> None:
        self.name = method
        self._setting = setting
        self._window = window
        self._max_age_s = max_age_s
        self.caution = ""
        self._names: tuple[str, ...] = ()
        self._columns = np.empty(0, np.int64)
        self._reference: Array = np.empty((0, 0), np.float32)
        self._detector: WindowDetector | None = None

    @property
    def ready(self) -> bool:
        """Return whether it is fitted."""
        return self._detector is not None

    @property
    def calibration_rows(self) -> int:
        """Return 0: its p-values are those of tables or permutations."""
        return 0

    @property
    def detector(self) -> WindowDetector:
        """Return what has bet.

        Raises:
            ValueError: It is not fitted.
        """
        if self._detector is None:
            raise ValueError(f"{self.name}: must be fitted before it bets.")
        return self._detector

    def fit(self, reference: Reference) -> None:
        """Keep rows of *reference* to hold windows against.

        Raises:
            ValueError: There are too few rows, a value is no number, or the window too small.
        """
        inputs = reference.inputs
        given = self._setting.inputs or tuple(inputs)
        self._names = tuple(name for name in given if inputs[name].dtype.kind in "biuf")
        if not self._names:
            raise ValueError(f"{self.name}: input must name an input of numbers, got {given}.")
        matrix = flat(inputs, self._names)
        features = matrix.shape[1]
        self._columns = np.unique(
            np.linspace(0, features - 1, min(features, MOST_FEATURES)).astype(np.int64)
        )
        self.caution = _caution(self.name, matrix[:, self._columns])
        drawn = np.random.default_rng(reference.seed).permutation(len(matrix))[:MOST_ROWS]
        self._begin(matrix[np.sort(drawn)][:, self._columns].astype(np.float32))

    def add(self, reference: Reference) -> None:
        """Learn nothing: it looks at inputs."""

    def rank(self, rows: Observed) -> Ranked | None:
        """Count live *rows* in; a window that is full is bet on."""
        matrix = flat(rows.inputs, self._names)[:, self._columns]
        known = np.asarray(np.isfinite(matrix).all(axis=1))
        before = np.array([self.detector.log_wealth])
        ids = [i for i, here in zip(rows.ids, known, strict=True) if here]
        after = self.detector.update(matrix[known], ids, rows.at[known])
        return Ranked(None, np.concatenate([before, after])[np.cumsum(known)])

    def moved(self) -> tuple[Mapping[str, Any], ...]:
        """Return nothing: the portfolio has the histograms of inputs."""
        return ()

    def figures(self) -> dict[str, float]:
        """Return how many features moved in the last window, by Benjamini and Hochberg at 5 %."""
        last = self.detector.comparison
        return {} if last is None else {f"{self.name}_features_moved": float(last.moved())}

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        kept = {f"detector/{name}": array for name, array in self.detector.state().items()}
        return kept | {
            "names": np.array(self._names, dtype=np.str_),
            "columns": self._columns,
            "caution": np.array(self.caution, dtype=np.str_),
            "reference": self._reference,
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._names = tuple(str(name) for name in state["names"])
        self._columns = state["columns"]
        self.caution = str(state["caution"])
        self._begin(state["reference"])
        self.detector.restore(under(state, "detector"))

    def _begin(self, reference: Array) -> None:
        self._reference = reference
        self._detector = WindowDetector(
            reference.astype(np.float64),
            self.name,
            window=self._window,
            max_age_s=self._max_age_s,
            seed=self._setting.seed,
        )


def _caution(name: str, matrix: Array) -> str:
    """Return what is said of the feature that depends most on its past, "" where none does.

    Tails of tables and permutations are those of independent rows: a window of 200 that resemble
    each other is as odd as one of fewer.

    Args:
        matrix: Reference rows in their order, shape (rows, features).
    """
    places = [_mid_ranks(column) for column in matrix.T]
    found = [dependence(each, LEVEL / len(places)) for each in places]
    times = [each.time if each.found else 0.0 for each in found]
    most = int(np.argmax(times))
    return caution(name, places[most]) if times[most] else ""


def _mid_ranks(values: Array) -> Array:
    """Return the rank of each of *values*, equal ones alike, shape (rows,)."""
    ordered = np.sort(values)
    ranks: Array = (
        np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    ) / 2
    return ranks
