"""Which features moved, for the evidence of an alarm: histograms of before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.rows import flat
from scanflow_serve.runtime.tensors import Array, Tensors

MOST_FEATURES = 256  # of an image, as many pixels evenly spread
KEPT_ROWS = 200  # the latest live rows; about what a drift takes to be seen
BINS = 10
SHOWN = 5


class Movement:
    """Histograms of reference features, and the latest live rows to hold against them.

    Args:
        names: Inputs to look at; text is left out.
        inputs: Reference rows, each of shape (rows, …).
    """

    def __init__(self, names: Sequence[str], inputs: Tensors) -> None:
        self._names = tuple(name for name in names if inputs[name].dtype.kind in "biuf")
        matrix = self._matrix(inputs)
        total = matrix.shape[1]
        self._columns = np.unique(np.linspace(0, total - 1, min(total, MOST_FEATURES)).astype(int))
        labels = _labels(self._names, inputs)
        self._labels = [labels[column] for column in self._columns]
        self._edges = [_edges(matrix[:, column]) for column in self._columns]
        self._before = [
            _shares(matrix[:, column], edges)
            for column, edges in zip(self._columns, self._edges, strict=True)
        ]
        self._recent: Array = np.empty((0, len(self._columns)), np.float32)

    def observe(self, inputs: Tensors) -> None:
        """Keep the latest of live rows."""
        latest = {name: inputs[name][-KEPT_ROWS:] for name in self._names}
        if not latest:
            return
        rows = self._matrix(latest)[:, self._columns].astype(np.float32)
        self._recent = np.concatenate([self._recent, rows])[-KEPT_ROWS:]

    def moved(self, rows: int = KEPT_ROWS) -> tuple[Mapping[str, Any], ...]:
        """Return the features that moved most over the last *rows* rows, first.

        ``moved`` is the Jensen-Shannon distance to base 2: 0 for the same shares, 1 for none in
        common.
        """
        recent = self._recent[-max(1, rows) :]
        if not len(recent):
            return ()
        after = [_shares(recent[:, place], edges) for place, edges in enumerate(self._edges)]
        far = [_js(b, a) for b, a in zip(self._before, after, strict=True)]
        order = sorted(range(len(far)), key=far.__getitem__, reverse=True)[:SHOWN]
        return tuple(
            {
                "name": self._labels[place],
                "moved": round(far[place], 4),
                "edges": [float(edge) for edge in self._edges[place]],
                "before": [round(float(share), 4) for share in self._before[place]],
                "after": [round(float(share), 4) for share in after[place]],
            }
            for place in order
        )

    def state(self) -> dict[str, Array]:
        """Return the reference's histograms as arrays; the latest rows are soon there again."""
        return {
            "names": np.array(self._names, dtype=np.str_),
            "columns": self._columns,
            "labels": np.array(self._labels, dtype=np.str_),
            "edges": _padded(self._edges, BINS + 1),
            "before": _padded(self._before, BINS),
        }

    @classmethod
    def restored(cls, state: Mapping[str, Array]) -> Movement:
        """Return what `state` was taken of."""
        self = cls.__new__(cls)
        self._names = tuple(str(name) for name in state["names"])
        self._columns = state["columns"]
        self._labels = [str(label) for label in state["labels"]]
        self._edges = [edges[~np.isnan(edges)] for edges in state["edges"]]
        self._before = [shares[~np.isnan(shares)] for shares in state["before"]]
        self._recent = np.empty((0, len(self._columns)), np.float32)
        return self

    def _matrix(self, inputs: Tensors) -> Array:
        if not self._names:
            return np.empty((len(next(iter(inputs.values()))), 0))
        return flat(inputs, self._names)


def _padded(rows: Sequence[Array], width: int) -> Array:
    """Return *rows* as one array, NaN where a row ends: a file of hundreds of arrays is slow."""
    padded = np.full((len(rows), width), np.nan)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _labels(names: Sequence[str], inputs: Tensors) -> list[str]:
    labels: list[str] = []
    for name in names:
        shape = inputs[name].shape[1:]
        if not shape or shape == (1,):
            labels.append(name)
        else:
            labels += [f"{name}[{','.join(map(str, at))}]" for at in np.ndindex(shape)]
    return labels


def _edges(values: Array) -> Array:
    """Return the edges of at most `BINS` bins of like shares; what lies beyond counts outermost."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.array([0.0, 1.0])
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)))
    if len(edges) < 3:  # constant, or nearly: a bin around the value and one on each side
        low, high = float(edges[0]), float(edges[-1])
        margin = max(abs(low), abs(high), 1.0) * 1e-6
        edges = np.array([low - 2 * margin, low - margin, high + margin, high + 2 * margin])
    return edges


def _shares(values: Array, edges: Array) -> Array:
    """Return the share of *values* in each bin; NaN and what lies beyond count outermost."""
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    counts: Array = np.bincount(places, minlength=len(edges) - 1)
    shares: Array = counts / max(1, len(values))
    return shares


def _js(first: Array, second: Array) -> float:
    """Return the Jensen-Shannon distance of two rows of shares, base 2 (Lin 1991)."""
    middle = (first + second) / 2
    divergence = 0.0
    for each in (first, second):
        some = each > 0
        divergence += float((each[some] * np.log2(each[some] / middle[some])).sum()) / 2
    return float(np.sqrt(max(0.0, divergence)))
