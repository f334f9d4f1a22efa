"""A third party's checks, as somebody else's package would bring them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np


class Brightness:
    """The mean of each row: ten lines, and all of the host's guarantees."""

    needs: ClassVar[frozenset[str]] = frozenset({"inputs"})

    def __init__(self, setting: Any) -> None:
        self._scale = 1.0

    def fit(self, reference: Any) -> None:
        self._scale = float(next(iter(reference.inputs.values())).std()) or 1.0

    def score(self, rows: Any) -> Any:
        array = next(iter(rows.inputs.values()))
        return array.reshape(len(array), -1).mean(axis=1, dtype=np.float64) / self._scale

    def state(self) -> Mapping[str, Any]:
        return {"scale": np.array(self._scale)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._scale = float(state["scale"])


class Raising(Brightness):
    """Fails on live rows, once the reference is done with."""

    calls = 0

    def score(self, rows: Any) -> Any:
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("boom")
        return super().score(rows)


class Hanging(Raising):
    """Never comes back from live rows."""

    def score(self, rows: Any) -> Any:
        try:
            return super().score(rows)
        except RuntimeError:
            time.sleep(3600)
            raise


class Leaking(Brightness):
    """Keeps a megabyte of every batch."""

    def __init__(self, setting: Any) -> None:
        super().__init__(setting)
        self.kept: list[Any] = []

    def score(self, rows: Any) -> Any:
        self.kept.append(np.zeros(1 << 18))
        return super().score(rows)
