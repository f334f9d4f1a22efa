"""Rows seen as sequences: the last few of a session, side by side, as a window.

A sine that turns faster, or two channels that come apart, leave every row as likely as before;
only rows in a row tell. Windows overlap, so that one odd row shows in as many as it is long: every
complete window is judged, but only those that share no row are bet on and calibrated with.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scanflow_serve.runtime.checks.rows import Observed
from scanflow_serve.runtime.tensors import Array

MOST_SESSIONS = 256
MOST_BYTES = 2**20  # of all buffers of one check, so that its state stays below 2 MB


@dataclass(frozen=True, slots=True)
class Windowed:
    """Scores of the windows that end at some rows.

    Attributes:
        scores: Shape (rows,), float64; NaN where `whole` is not.
        whole: Rows that have enough rows of their session before them, shape (rows,), bool.
        apart: Of these, the rows whose windows share no row with one another.
    """

    scores: Array
    whole: Array
    apart: Array


class SequenceScore(Protocol):
    """What a `Score` has besides where it looks at more than one row at a time.

    Attributes:
        span: Rows of a window.
    """

    span: int

    def windows(self, rows: Observed) -> Windowed:
        """Return the scores of the windows that end at *rows*, which follow their session's."""
        ...

    def forget(self) -> None:
        """Begin all sessions anew."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """Windows cut of the rows of one session.

    Attributes:
        windows: Of the rows that `whole` marks, shape (windows, span, features).
    """

    windows: Array
    whole: Array
    apart: Array


class Buffers:
    """The latest rows of each session; sessions that were silent longest are forgotten.

    Args:
        span: Rows of a window.
        features: Columns of a row.
    """

    def __init__(self, span: int, features: int) -> None:
        self.span = span
        self.features = features
        row_bytes = max(1, span * features * np.dtype(np.float32).itemsize)
        self._most = max(1, min(MOST_SESSIONS, MOST_BYTES // row_bytes))
        self._sessions: OrderedDict[str, tuple[Array, int]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return len(self._sessions)

    def cut(self, session: str, matrix: Array) -> Cut:
        """Return the windows that end at the rows of *matrix*, which come next in *session*.

        Args:
            matrix: Shape (rows, features), float32.
        """
        empty = np.empty((0, self.features), matrix.dtype)
        before, seen = self._sessions.pop(session, (empty, 0))
        joined = np.concatenate([before, matrix])
        places = seen + np.arange(1, len(matrix) + 1)  # of each row in its session, from 1
        whole = places >= self.span
        if whole.any():
            views = np.lib.stride_tricks.sliding_window_view(joined, self.span, axis=0)
            windows = views[-int(whole.sum()) :].transpose(0, 2, 1)
        else:
            windows = np.empty((0, self.span, self.features), matrix.dtype)
        kept = joined[max(0, len(joined) - self.span + 1) :].copy()
        self._sessions[session] = kept, seen + len(matrix)
        if len(self._sessions) > self._most:
            self._sessions.popitem(last=False)
        return Cut(np.ascontiguousarray(windows), whole, places % self.span == 0)

    def clear(self) -> None:
        """Forget all sessions."""
        self._sessions.clear()


def stretches(run: Array | None, rows: int) -> list[slice]:
    """Return the unbroken stretches of rows, in order.

    Args:
        run: Number of the stretch that each row belongs to, shape (rows,); None: all are one.

    >>> stretches(np.array([0, 0, 3, 3, 3]), 5)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    if run is None:
        return [slice(0, rows)]
    ends = [*(np.flatnonzero(np.diff(run)) + 1).tolist(), rows]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
