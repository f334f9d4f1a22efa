"""River's change detectors over one stream of numbers, with a state of our own.

River is imported when the first detector is made, and no sooner: it brings pandas and
scikit-learn, some hundred MB and seconds. Its objects are never pickled, for their insides change
with its versions: what is kept are the numbers that a detector was fed since it began, and it is
made again by feeding them. So that they stay few, a detector is begun anew now and then with the
latest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scanflow_serve.runtime.tensors import Array

COMPARED = 30  # numbers that KSWIN holds against as many


class Detector(Protocol):
    """What River's detectors have in common."""

    @property
    def drift_detected(self) -> bool:
        """Return whether the latest number tells a change."""
        ...

    def update(self, x: float) -> object:
        """Look at one number more."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One of River's detectors, as it is to be made.

    Attributes:
        make: Returns a new one; imports River.
        memory: Numbers that one is begun with: what it looks back on.
        most: Numbers after which one is begun anew.
    """

    make: Callable[[], Detector]
    memory: int
    most: int


class Stream:
    """A detector and the numbers that it was fed.

    Attributes:
        kind: How the detector is made.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._detector: Detector | None = None
        self._values: list[float] = []

    def begin(self) -> None:
        """Begin with nothing."""
        self._values = []
        self._detector = self.kind.make()

    def update(self, values: Array) -> int | None:
        """Look at *values*, shape (n,), in turn; return the place of the first that tells a change.

        What comes after that one is not looked at.
        """
        for place, value in enumerate(values.tolist()):
            if len(self._values) >= self.kind.most:
                self._replay(self._values[-self.kind.memory :])
            detector = self._detector or self._replay([])
            self._values.append(value)
            detector.update(value)
            if detector.drift_detected:
                return place
        return None

    def latest(self, count: int) -> Array:
        """Return the latest *count* numbers, fewer if there are not so many."""
        return np.array(self._values[-count:])

    def state(self) -> dict[str, Array]:
        """Return the numbers fed, as an array."""
        return {"values": np.array(self._values)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._replay(state["values"].tolist())

    def _replay(self, values: list[float]) -> Detector:
        self._values = values
        self._detector = detector = self.kind.make()
        for value in values:
            detector.update(value)
        return detector


def adwin(delta: float) -> Kind:
    """Return ADWIN, which finds that two parts of a window differ in their means.

    Args:
        delta: Risk of each look; smaller for fewer false alarms.

    Raises:
        ValueError: *delta* is no risk.

    Source:
        Bifet & Gavaldà (2007), "Learning from time-changing data with adaptive windowing".
    """
    _require_share("delta", delta)
    return Kind(lambda: _river().ADWIN(delta=delta), memory=5000, most=10_000)


def page_hinkley(delta: float, threshold: float) -> Kind:
    """Return the Page-Hinkley test, which finds that the mean moves up or down.

    Args:
        delta: How far the mean may move without being noticed.
        threshold: Sum of what lies beyond at which it alarms.

    Raises:
        ValueError: One is not > 0.

    Source:
        Page (1954), "Continuous inspection schemes"; Hinkley (1971).
    """
    for name, value in (("delta", delta), ("threshold", threshold)):
        if not (_number(value) and value > 0):
            raise ValueError(f"{name} must be a number > 0, got {value!r}. Ranks are 0 to 1.")
    return Kind(
        lambda: _river().PageHinkley(delta=delta, threshold=threshold), memory=5000, most=10_000
    )


def kswin(alpha: float, window: int, seed: int) -> Kind:
    """Return KSWIN, which holds the latest numbers against as many drawn from those before.

    Args:
        alpha: Level of each test, of which there is one a row.
        window: Numbers that it looks back on.
        seed: Of what is drawn.

    Raises:
        ValueError: *alpha* is no level, or the window too small.

    Source:
        Raab, Heusinger & Schleif (2020), "Reactive soft prototype computing for concept drift
        streams", Neurocomputing.
    """
    _require_share("alpha", alpha)
    if window < 2 * COMPARED:
        raise ValueError(
            f"window must be >= 2 * {COMPARED}, got {window!r}. Its latest {COMPARED} are held "
            "against as many drawn from the others."
        )
    return Kind(
        lambda: _river().KSWIN(alpha=alpha, window_size=window, stat_size=COMPARED, seed=seed),
        memory=window,
        most=10 * window,
    )


def _river() -> Any:
    """Return River's module of detectors; importing it takes seconds."""
    from river import drift

    return drift


def _require_share(name: str, value: float) -> None:
    if not (_number(value) and 0 < value < 1):
        raise ValueError(f"{name} must be in (0, 1), got {value!r}. Give a share, such as 0.001.")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
