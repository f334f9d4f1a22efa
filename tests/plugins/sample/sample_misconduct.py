"""Checks that misbehave on live rows, each in its own way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from sample_checks import Brightness, StuckSensors


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
    """Keeps megabytes of every batch."""

    def __init__(self, setting: Any) -> None:
        super().__init__(setting)
        self.kept: list[Any] = []

    def score(self, rows: Any) -> Any:
        self.kept.append(np.zeros(1 << 21))
        return super().score(rows)


class Shapeless(Raising):
    """Gives one number for all live rows together."""

    def score(self, rows: Any) -> Any:
        try:
            return super().score(rows)
        except RuntimeError:
            return np.zeros(1)


class Verdictless(StuckSensors):
    """Says something of other rows than it was shown."""

    def observe(self, rows: Any) -> Any:
        said = super().observe(rows)
        return type(said)(None, np.zeros(rows.rows + 1, np.bool_))


class Numberless(StuckSensors):
    """Has a statistic that is no number."""

    def result(self) -> Any:
        return type(super().result())(float("nan"))


class Stateless(StuckSensors):
    """Wants an object to be kept."""

    def state(self) -> Mapping[str, Any]:
        return {"self": np.array([self], dtype=object)}
