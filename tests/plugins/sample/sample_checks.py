"""A third party's checks, as somebody else's package would bring them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from scanflow_serve.runtime.checks.protocol import Cost, Family, Need, Reading, Verdicts
from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting, flat
from scanflow_serve.runtime.tensors import Array


class Brightness:
    """The mean of each row: a score, and all of the host's guarantees with it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})

    def __init__(self, setting: Setting) -> None:
        self._scale = 1.0

    def fit(self, reference: Reference) -> None:
        self._scale = float(next(iter(reference.inputs.values())).std()) or 1.0

    def score(self, rows: Observed) -> Array:
        array = next(iter(rows.inputs.values()))
        brightness: Array = array.reshape(len(array), -1).mean(axis=1, dtype=np.float64)
        return brightness / self._scale

    def state(self) -> Mapping[str, Array]:
        return {"scale": np.array(self._scale)}

    def restore(self, state: Mapping[str, Array]) -> None:
        self._scale = float(state["scale"])


class StuckSensors:
    """A check of its own rule: a feature that varies stands still for much too long.

    Args:
        patience: Times the longest standstill of the reference.
    """

    cost: ClassVar[Cost] = "worker"
    extra: ClassVar[str | None] = None
    mergeable: ClassVar[bool] = True
    family: ClassVar[Family] = "drift"
    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})
    bets: ClassVar[bool] = False

    def __init__(self, setting: Setting, patience: float = 3.0) -> None:
        if not patience > 1:
            raise ValueError(f"patience must be > 1, got {patience!r}. For example: patience: 3")
        self._patience = patience
        self._inputs = setting.inputs
        self._most = np.empty(0)
        self._still = np.empty(0, np.int64)
        self._last = np.empty(0)
        self._stuck = False

    def fit(self, reference: Reference) -> None:
        matrix = self._matrix(reference.inputs)
        if len(matrix) < 2:
            raise ValueError(f"reference must have >= 2 rows, got {len(matrix)}. Give more.")
        longest = np.zeros(matrix.shape[1])
        still = np.zeros(matrix.shape[1])
        for here, before in zip(matrix[1:], matrix[:-1], strict=True):
            still = np.where(here == before, still + 1, 0)
            longest = np.maximum(longest, still)
        varies = (matrix != matrix[0]).any(axis=0)
        self._most = np.where(varies, self._patience * np.maximum(longest, 1), np.inf)
        self.acknowledge()

    def observe(self, rows: Observed) -> Verdicts | None:
        flagged = np.zeros(rows.rows, np.bool_)
        for place, here in enumerate(self._matrix(rows.inputs)):
            same = here == self._last if len(self._last) else np.zeros(len(here), np.bool_)
            self._still = np.where(same, self._still + 1, 0)
            self._last = here
            flagged[place] = (self._still > self._most).any()
        self._stuck |= bool(flagged.any())
        return Verdicts(None, flagged)

    def result(self) -> Reading:
        return Reading(float((self._still / self._most).max(initial=0.0)), alarm=self._stuck)

    def acknowledge(self) -> None:
        self._still = np.zeros(len(self._most), np.int64)
        self._last = np.empty(0)
        self._stuck = False

    def state(self) -> Mapping[str, Array]:
        return {
            "most": self._most,
            "still": self._still,
            "last": self._last,
            "stuck": np.array(self._stuck),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        self._most, self._still, self._last = state["most"], state["still"], state["last"]
        self._stuck = bool(state["stuck"])

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        self._stuck |= any(bool(other["stuck"]) for other in others)

    def _matrix(self, inputs: Mapping[str, Array]) -> Array:
        return flat(dict(inputs), self._inputs or tuple(inputs))
