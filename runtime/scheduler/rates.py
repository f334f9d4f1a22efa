"""How much traffic there is, and how long answers take: moving figures, updated on each tick."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

SPREAD_S = 10.0  # a variance takes longer to tell than a mean
SURGE_SIGMAS = 2.0  # standard deviations of the fast mean that are taken for chance


class Rate:
    """Arrivals per second: a slow mean, and a fast one that shows when a surge has begun.

    Attributes:
        fast: Per second, over about *fast_s*.
        slow: Per second, over about *slow_s*.
        total: All that came, up to the last tick.
    """

    __slots__ = (
        "_count",
        "_fast_s",
        "_noise",
        "_since",
        "_slow_s",
        "_spread",
        "_squares",
        "_start",
        "fast",
        "slow",
        "total",
    )

    def __init__(self, now: float, fast_s: float, slow_s: float) -> None:
        self.fast = self.slow = 0.0
        self.total = 0
        self._count = self._squares = 0
        self._spread = 0.0  # variance of the count, per second, over about `SPREAD_S`
        self._noise = 0.0  # squares of what arrived together, per second, over about *slow_s*
        self._start = self._since = now
        self._fast_s = fast_s
        self._slow_s = slow_s

    def add(self, count: int) -> None:
        """Count arrivals at one time."""
        self._count += count
        self._squares += count * count

    def tick(self, now: float) -> None:
        """Bring the means up to date."""
        passed = now - self._since
        if passed <= 0.0:
            return
        current = self._count / passed
        # Before a mean's own span has passed, all that was seen counts alike.
        seen = now - self._start
        slow = _weight(passed, self._slow_s, seen)
        off = self._count - self.slow * passed
        self._spread += _weight(passed, SPREAD_S, seen) * (off * off / passed - self._spread)
        self.fast += _weight(passed, self._fast_s, seen) * (current - self.fast)
        self.slow += slow * (current - self.slow)
        self._noise += slow * (self._squares / passed - self._noise)
        self.total += self._count
        self._count = self._squares = 0
        self._since = now

    @property
    def variation(self) -> float:
        """Return variance over mean of the counts of ticks: 1 for Poisson, more for bursts."""
        return self._spread / self.slow if self.slow > 0.0 else 1.0

    @property
    def cautious(self) -> float:
        """Return the rate to plan for: quick to rise, slow to fall.

        The fast mean counts as far as it exceeds what chance does to it at a steady rate: its
        standard deviation under Poisson arrivals, over an exponential window of *fast_s*, is the
        root of rate / (2 *fast_s*).
        """
        chance = SURGE_SIGMAS * math.sqrt(self._noise / (2 * self._fast_s))
        return max(self.fast - chance, self.slow)

    def current(self, now: float) -> float:
        """Return the rate since the last tick where it exceeds chance, `cautious` otherwise."""
        passed = now - self._since
        if passed <= 0.0:
            return self.cautious
        surge = self._count - SURGE_SIGMAS * math.sqrt(self._squares)
        return max(self.cautious, surge / passed)


def _weight(passed: float, span: float, seen: float) -> float:
    return max(-math.expm1(-passed / span), passed / seen if seen < span else 0.0)


class Window:
    """The latest answers' latencies.

    Args:
        most: Answers that are kept.
        span_s: How long they count.
    """

    __slots__ = ("_kept", "_span_s")

    def __init__(self, most: int = 1024, span_s: float = 10.0) -> None:
        self._kept: deque[tuple[float, float]] = deque(maxlen=most)
        self._span_s = span_s

    def add(self, now: float, latency_ms: float) -> None:
        """Count one answer."""
        self._kept.append((now, latency_ms))

    def percentiles(self, now: float, wanted: Sequence[float]) -> list[float]:
        """Return percentiles of the latency, in ms, nearest rank; 0 where nothing was answered."""
        oldest = now - self._span_s
        values = sorted(ms for at, ms in self._kept if at >= oldest)
        if not values:
            return [0.0] * len(wanted)
        return [values[max(0, math.ceil(q / 100 * len(values)) - 1)] for q in wanted]
