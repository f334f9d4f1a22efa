"""Explains rows that a score flags, a few now and then: the work is bounded, and never urgent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.checks.occlusion import Group, explain, image_edges, row_groups
from scanflow_serve.runtime.checks.protocol import Score
from scanflow_serve.runtime.checks.rows import Answers, Observed
from scanflow_serve.runtime.tensors import Array, Tensors

EVERY_S = 1.0  # at most one row so often: 65 scores a second, of a microsecond to a millisecond
KEPT = 12  # explanations; as many rows are shown
SHOWN = 8  # groups of one


@dataclass(frozen=True, slots=True)
class Heat:
    """Where in an image a score comes from.

    Attributes:
        height: Of the image, in pixels.
        rows: Pixels at which patches begin, and at which the last one ends; *columns* likewise.
        changes: As `Explanation.parts`, of each patch, row by row.
    """

    input: str
    height: int
    width: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    changes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What made the score of one row.

    Attributes:
        id: Prediction id of the row.
        score: Of the row, in the score's own unit.
        typical: Of a row of medians.
        parts: Groups of values that changed it most, first: name, and how much of the score goes
            if they were as in normal times; negative where they lower it.
        heat: Of each input that is an image.
    """

    id: str
    score: float
    typical: float
    parts: tuple[tuple[str, float], ...]
    heat: tuple[Heat, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "score": self.score,
            "typical": self.typical,
            "parts": [{"name": name, "change": change} for name, change in self.parts],
            "heat": [asdict(each) for each in self.heat],
        }


class Explainer:
    """Explains the latest flagged rows of one score of inputs; one thread notes, any may read.

    Args:
        score: Of rows by input, shape (rows,).
        typical: A row of medians, by input, of shape (1, …); see `occlusion.typical_row`.
    """

    def __init__(
        self,
        score: Callable[[Tensors], Array],
        typical: Tensors,
        images: Mapping[str, ImageShape] | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.typical = typical
        self._score = score
        self._images = dict(images or {})
        self._columns = dict(columns or {})
        self._clock = clock
        self._next = -np.inf
        self._latest: deque[Explanation] = deque(maxlen=KEPT)

    @property
    def latest(self) -> tuple[Explanation, ...]:
        """Return what was explained, newest first."""
        return tuple(reversed(self._latest))

    def note(self, rows: Observed, flagged: Array) -> None:
        """Explain the last of *rows* that is flagged, unless one was explained just now."""
        now = self._clock()
        if now < self._next or not flagged.any():
            return
        self._next = now + EVERY_S
        place = int(np.flatnonzero(flagged)[-1])
        row = {name: rows.inputs[name][place : place + 1] for name in self.typical}
        if any(row[name].shape != normal.shape for name, normal in self.typical.items()):
            return  # of another size than the reference: there is nothing to put in its place
        self._latest.append(self._explained(rows.ids[place], row))

    def _explained(self, identity: str, row: Tensors) -> Explanation:
        groups = row_groups(row, self._images, self._columns)
        change = explain(self._score, row, self.typical, groups)
        order = np.argsort(-np.abs(change), kind="stable")[:SHOWN]
        return Explanation(
            id=identity,
            score=float(self._score(row)[0]),
            typical=float(self._score(self.typical)[0]),
            parts=tuple(
                (f"{groups[at].input}{_dotted(groups[at].name)}", float(change[at])) for at in order
            ),
            heat=tuple(
                _heat(name, shape, row[name].shape[1:], groups, change)
                for name, shape in self._images.items()
                if name in row
            ),
        )


def _heat(
    name: str,
    image: ImageShape,
    shape: tuple[int, ...],
    groups: Sequence[Group],
    change: Array,
) -> Heat:
    rows, columns = image_edges(image, shape)
    own = [float(part) for group, part in zip(groups, change, strict=True) if group.input == name]
    return Heat(name, rows[-1], columns[-1], tuple(rows), tuple(columns), tuple(own))


def _dotted(name: str) -> str:
    return f".{name}" if name and not name.startswith("[") else name


def explainer(score: Score, typical: Tensors, images: Mapping[str, ImageShape]) -> Explainer | None:
    """Return what explains rows that *score* flags, None where single inputs don't decide it.

    A score of answers would have to run the model; one of sequences looks at rows before.
    """
    if score.needs != frozenset({"inputs"}) or getattr(score, "span", 1) != 1:
        return None

    def scored(inputs: Tensors) -> Array:
        rows = len(next(iter(inputs.values())))
        return score.score(Observed([""] * rows, inputs, Answers({}), "", np.zeros(rows)))

    return Explainer(scored, typical, images)
