"""The figures by which candidates are compared: direction, noise, and how they are written.

Two values of a figure are *tied* when they differ by no more than measuring twice would make
them differ. Accuracy and size are counted, not timed: they tie only when equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanflow_serve.runtime.measurements import Measurement


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a measurement.

    Attributes:
        key: As the policy's objective names it.
        label: As people read it.
        higher: Whether more is better.
        of: Its value; None where it is not known.
        noise: Relative difference within which two values are tied.
        grain: Absolute difference within which two values are tied, in its unit.
        tie: How a tie reads, such as ``as accurate``.
        loss: How the worse of two reads, such as ``less accurate``.
        superlative: How the best of all reads.
    """

    key: str
    label: str
    unit: str
    higher: bool
    of: Callable[[Measurement], float | None]
    tie: str
    loss: str
    superlative: str
    noise: float = 0.0
    grain: float = 0.0

    def better(self, a: float, b: float) -> bool:
        """Return whether *a* is better than *b*, however little."""
        return a > b if self.higher else a < b

    def tied(self, a: float, b: float) -> bool:
        """Return whether *a* and *b* can't be told apart by measuring."""
        return abs(a - b) <= max(self.noise * max(abs(a), abs(b)), self.grain)

    def show(self, value: float, digits: int = 3) -> str:
        """Return *value* with its unit.

        >>> FIGURES["latency_p95_ms"].show(31.24)
        '31.2 ms'
        """
        return f"{self._number(value, digits)}{self.unit}"

    def compare(self, worse: float, better: float) -> str:
        """Return both values with as many digits as it takes to see that they differ.

        >>> FIGURES["accuracy"].compare(0.9896, 0.99)
        'accuracy 0.9896 < 0.9900'
        """
        sign = "<" if self.higher else ">"
        for digits in range(3, 17):
            left, right = self.show(worse, digits), self.show(better, digits)
            if left != right:
                break
        return f"{self.label} {left} {sign} {right}"

    def _number(self, value: float, digits: int) -> str:
        if self.key == "accuracy":
            return f"{value:.{digits}f}"
        if abs(value) >= 10**digits:
            return f"{value:.0f}"
        return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


# 5 %: p95 of two calibrations of one variant on an idle machine differ by about that much.
_TIMED = 0.05

_ALL = (
    Figure(
        "accuracy",
        "accuracy",
        "",
        True,
        lambda m: m.accuracy,
        tie="as accurate",
        loss="less accurate",
        superlative="most accurate",
    ),
    Figure(
        "latency_p95_ms",
        "latency p95",
        " ms",
        False,
        lambda m: m.latency_p95_ms,
        tie="as fast",
        loss="slower",
        superlative="fastest",
        noise=_TIMED,
    ),
    Figure(
        "throughput_rps",
        "throughput",
        " rows/s",
        True,
        lambda m: m.throughput_rps,
        tie="as many rows/s",
        loss="fewer rows/s",
        superlative="most rows/s",
        noise=_TIMED,
    ),
    Figure(
        "memory_mb",
        "memory",
        " MB",
        False,
        lambda m: m.memory_mb,
        tie="as little memory",
        loss="more memory",
        superlative="least memory",
        noise=_TIMED,
        grain=1.0,  # MB; allocators hand out memory in arenas about this large
    ),
    Figure(
        "size_mb",
        "size",
        " MB",
        False,
        lambda m: m.size_mb,
        tie="as small",
        loss="larger",
        superlative="smallest",
    ),
    Figure(
        "energy_mj",
        "energy",
        " mJ",
        False,
        lambda m: m.energy_mj,
        tie="as frugal",
        loss="more energy",
        superlative="least energy",
        noise=_TIMED,
    ),
)
FIGURES: dict[str, Figure] = {figure.key: figure for figure in _ALL}

# What a candidate can be better in without being chosen for it: the axes of the frontier.
AXES = (FIGURES["accuracy"], FIGURES["latency_p95_ms"], FIGURES["memory_mb"])


def constraint_figure(key: str) -> Figure:
    """Return the figure that a key of ``subject_to`` bounds, such as ``max_latency_p95_ms``."""
    return FIGURES[key.partition("_")[2]]


def bound_text(key: str, limit: float) -> str:
    """Return a bound as people read it.

    >>> bound_text("max_latency_p95_ms", 20)
    'latency p95 <= 20 ms'
    """
    figure = constraint_figure(key)
    return f"{figure.label} {'>=' if key.startswith('min_') else '<='} {limit:g}{figure.unit}"
