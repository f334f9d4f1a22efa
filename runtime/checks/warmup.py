"""Live warm-up: normal times learned from traffic, where nobody has a file of them.

Traffic that changes while it is collected would be learned as normal: rows must span the season
that the policy names, and their first half must look like the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from scanflow_serve.runtime.checks.rows import Observed, Reference, flat
from scanflow_serve.runtime.tensors import Array, Tensors

MOST_BYTES = 64 * 1024 * 1024
LEVEL = 0.01  # of the test for stationarity, over all features together
MOST_FEATURES = 64


class Warmup:
    """Rows of live traffic, until there are enough to call them normal times.

    Beyond *rows*, while the span is still too short, what is kept is a uniform sample.

    Args:
        rows: How many are wanted.
        min_span_s: Time that they must span, in s.
        seed: Of the sample.
    """

    def __init__(self, rows: int, min_span_s: float = 0.0, seed: int = 0) -> None:
        self.wanted = rows
        self._min_span_s = min_span_s
        self._rng = np.random.default_rng(seed)
        self._inputs: Tensors = {}
        self._at = np.empty(0)
        self._sessions: list[str] = []
        self._seen = 0
        self._first = math.inf
        self._last = -math.inf
        self.why = ""
        self.changed = False

    @property
    def rows(self) -> int:
        """Return how many rows are kept."""
        return len(self._at)

    def observe(self, rows: Observed) -> None:
        """Take live rows in."""
        if rows.rows == 0:
            return
        self.changed = True
        self._first = min(self._first, float(rows.at[0]))
        self._last = max(self._last, float(rows.at[-1]))
        room = self.wanted - self.rows
        if room > 0:
            self._append({name: a[:room] for name, a in rows.inputs.items()}, rows.at, rows.session)
        for place in range(max(0, room), rows.rows):
            self._replace(rows, place)
        self._seen += rows.rows

    def reference(self, seed: int = 0) -> Reference | None:
        """Return the rows if they are enough, else None; `why` says what they lack."""
        if self.rows < self.wanted:
            self.why = f"collects live rows: {self.rows} of {self.wanted}"
            return None
        span_s = self._last - self._first
        if span_s < self._min_span_s:
            self.why = f"collects live rows over {self._min_span_s:g} s: {span_s:.0f} s so far"
            return None
        order = np.argsort(self._at, kind="stable")
        inputs = {name: array[order] for name, array in self._inputs.items()}
        if moved := moving_feature(inputs):
            self.why = f"traffic is not stationary: {moved} moved; collects newer rows"
            self._keep(order[self.rows // 2 :])
            return None
        self.why = ""
        return self._reference(order, seed)

    def _reference(self, order: Array, seed: int) -> Reference:
        """Return the rows, those of a session together, in order of time if none was left out."""
        sessions = np.array(self._sessions, dtype=np.str_)[order]
        place = np.argsort(sessions, kind="stable")
        sessions, order = sessions[place], order[place]
        return Reference(
            inputs={name: array[order] for name, array in self._inputs.items()},
            ordered=self._seen == self.rows,
            seed=seed,
            source="live",
            run=np.cumsum(sessions != np.roll(sessions, 1)),
            at=self._at[order],
            session=sessions,
        )

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        self.changed = False
        figures = np.array([self._seen, self._first, self._last])
        return {
            "at": self._at,
            "figures": figures,
            "sessions": np.array(self._sessions, dtype=np.str_),
            **{f"inputs/{name}": array for name, array in self._inputs.items() if _kept(array)},
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._at = state["at"]
        self._sessions = state["sessions"].tolist()
        seen, self._first, self._last = (float(each) for each in state["figures"])
        self._seen = int(seen)
        self._inputs = {
            name.removeprefix("inputs/"): array.copy()
            for name, array in state.items()
            if name.startswith("inputs/")
        }

    def _append(self, inputs: Tensors, at: Array, session: str) -> None:
        count = len(next(iter(inputs.values())))
        if not self._inputs:
            self._bound(inputs)
            self._inputs = {name: array[:0].copy() for name, array in inputs.items()}
            count = min(count, self.wanted)
        for name, array in inputs.items():
            self._inputs[name] = np.concatenate([self._inputs[name], array[:count]])
        self._at = np.concatenate([self._at, at[:count]])
        self._sessions += [session] * (len(self._at) - len(self._sessions))

    def _bound(self, inputs: Tensors) -> None:
        """Want fewer rows where they are large: memory on the edge is short."""
        row = sum(array[:1].nbytes for array in inputs.values())
        self.wanted = max(1, min(self.wanted, MOST_BYTES // max(1, row)))

    def _replace(self, rows: Observed, place: int) -> None:
        """Take one more row in with the chance that keeps the sample uniform (Vitter 1985, R)."""
        slot = int(self._rng.integers(self._seen + place + 1))
        if slot < self.rows:
            for name, array in rows.inputs.items():
                self._inputs[name][slot] = array[place]
            self._at[slot] = rows.at[place]
            self._sessions[slot] = rows.session

    def _keep(self, index: Array) -> None:
        self._inputs = {name: array[index] for name, array in self._inputs.items()}
        self._at = self._at[index]
        self._sessions = [self._sessions[each] for each in index]
        self._seen = len(index)
        self._first = float(self._at.min())


def moving_feature(inputs: Tensors, level: float = LEVEL) -> str:
    """Return the input whose first half differs from its second, "" if none does.

    Args:
        inputs: In order of time, each of shape (rows, …); text is left out.
        level: Chance that a stationary stream is taken for a moving one.

    Source:
        Two-sample Kolmogorov-Smirnov with Smirnov's asymptotic critical value, Bonferroni over
        the features.
    """
    numeric = {name: a for name, a in inputs.items() if a.dtype.kind in "biuf"}
    columns: list[tuple[str, Array]] = []
    for name in numeric:
        matrix = flat(numeric, [name])
        chosen = np.unique(np.linspace(0, matrix.shape[1] - 1, MOST_FEATURES).astype(int))
        columns += [(name, matrix[:, column]) for column in chosen if matrix.shape[1]]
    if not columns:
        return ""
    half = len(columns[0][1]) // 2
    rest = len(columns[0][1]) - half
    critical = math.sqrt(-math.log(level / len(columns) / 2) / 2 * (1 / half + 1 / rest))
    distances = [_ks(column[:half], column[half:]) for _, column in columns]
    largest = int(np.argmax(distances))
    return columns[largest][0] if distances[largest] > critical else ""


def _ks(first: Array, second: Array) -> float:
    """Return the largest distance of two samples' distribution functions."""
    points = np.unique(np.concatenate([first, second]))
    below = [
        np.searchsorted(np.sort(each), points, side="right") / len(each) for each in (first, second)
    ]
    return float(np.abs(below[0] - below[1]).max())


def _kept(array: Array) -> bool:
    return array.dtype.kind != "O"  # text can't be kept without pickle; it is collected anew
