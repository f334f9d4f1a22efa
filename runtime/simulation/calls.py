"""How long a call takes in the simulated world, and what a row costs the host at least."""

from __future__ import annotations

import math
import random

from scanflow_serve.runtime.scheduler.jobs import Option

# A lognormal's p95 lies this many standard deviations above its median.
P95 = 1.6449
LEAST = -P95  # calls have a floor
# Times p95. What lies beyond it was not measured; where spread is wide, as on a host with noisy
# neighbours, a lognormal's own tail would have calls that take a hundred times their median.
MOST = 2.0


class Calls:
    """Draws how long calls take: a lognormal through the measured p50 and p95, cut off.

    Args:
        seed: Calls drawn from one seed, in one order, are the same.
    """

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(f"calls {seed}")

    def took_s(self, option: Option, rows: int) -> float:
        """Return the time of one call alone on the host, in s."""
        median, p95 = option.curve.p50_ms(rows), option.curve.p95_ms(rows)
        spread = math.log(max(1.0, p95 / median)) / P95
        off = max(self._draw.gauss(0.0, 1.0), LEAST)
        drawn_ms = min(median * math.exp(spread * off), MOST * p95)
        return drawn_ms / option.curve.contention / 1000


def row_cost_s(option: Option, cores: int) -> float:
    """Return the core time of a row in the batch in which it costs least, in s, at the median.

    On a host whose cores are all busy: then most is done in the time, whatever the contention.
    The mean of what `Calls` draws lies above its median: no run gets by on less, but by luck.
    """
    threads = min(option.threads, cores)
    curve = option.curve
    return min(curve.p50[rows] / rows for rows in range(1, curve.max_batch + 1)) * threads / 1000
