"""Traffic and latency over the last hour: what the dashboard draws, and no request pays for.

Counters are read at fixed times; what lies between two readings is a point.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import Any

INTERVAL_S = 5.0
KEPT = 720  # points: an hour


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters at one moment, since the start.

    Attributes:
        answered: Inference requests with a 2xx.
        failed: Inference requests with any other status.
        rows: Rows predicted.
        bounds: Upper bounds of the latency buckets, in s; the last bucket has none.
        latency: Inference requests in each bucket.
        missed: Deadlines not held: refused before inference, or answered late.
        queued: Requests that wait at this moment.
        variants: Requests answered, by variant.
    """

    answered: int
    failed: int
    rows: int
    bounds: Sequence[float]
    latency: Sequence[float]
    missed: int = 0
    queued: int = 0
    variants: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """What came between two readings.

    Attributes:
        at: Unix time of the later one, in s.
        missed: Deadlines not held.
        queued: Requests that waited at that time.
        variants: Requests answered, by variant; those that answered none are left out.
        p50_ms: Of all inference requests, refused ones too, from the first header to the last
            byte; None where there was none.
    """

    at: float
    requests: int
    failed: int
    rows: int
    missed: int
    queued: int
    variants: Mapping[str, int]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


def quantile_ms(counts: Sequence[float], bounds: Sequence[float], q: float) -> float | None:
    """Return the *q*-quantile of counted latencies in ms, None of none.

    Within a bucket values are taken to lie evenly; above the last bound that bound is returned.

    Args:
        counts: In each bucket, shape (buckets + 1,).
        bounds: Upper bounds of the buckets in s, shape (buckets,).

    Source:
        Prometheus' ``histogram_quantile``.

    >>> quantile_ms([0, 4, 0], [0.001, 0.002], 0.5)
    1.5
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank, before = q * total, 0.0
    for (low, high), count in zip(pairwise((0.0, *bounds)), counts, strict=False):
        if count > 0 and before + count >= rank:
            return 1000 * (low + (high - low) * (rank - before) / count)
        before += count
    return 1000 * bounds[-1]


class Traffic:
    """The points of the last hour.

    Args:
        read: Returns the counters of this moment.
        clock: Unix time, in s.
    """

    def __init__(
        self,
        read: Callable[[], Totals],
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._interval_s = interval_s
        self._clock = clock
        self._last = read()
        self._points: deque[dict[str, Any]] = deque(maxlen=KEPT)  # as JSON: made once, read often

    async def run(self) -> None:
        """Take a reading every interval until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            self.sample()

    def sample(self) -> None:
        """Take a reading, and keep what came since the one before."""
        last, now = self._last, self._read()
        self._last = now
        latency = [b - a for a, b in zip(last.latency, now.latency, strict=True)]
        p50, p95, p99 = (quantile_ms(latency, now.bounds, q) for q in (0.5, 0.95, 0.99))
        answered = {name: n - last.variants.get(name, 0) for name, n in now.variants.items()}
        point = Point(
            at=round(self._clock(), 3),
            requests=now.answered - last.answered,
            failed=now.failed - last.failed,
            # A policy that another follows takes its counts with it.
            rows=max(0, now.rows - last.rows),
            missed=max(0, now.missed - last.missed),
            queued=now.queued,
            variants={name: count for name, count in answered.items() if count > 0},
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
        )
        self._points.append(asdict(point))

    def to_json(self, after: float | None = None) -> dict[str, Any]:
        """Return the JSON form, as ``GET /stats`` shows it; oldest first.

        Args:
            after: Unix time in s: only later points are told.
        """
        points = list(self._points)
        if after is not None:
            points = points[bisect_right(points, after, key=itemgetter("at")) :]
        return {"interval_s": self._interval_s, "points": points}
