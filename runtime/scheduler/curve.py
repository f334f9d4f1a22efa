"""How long one call takes by the number of its rows, from the batch sizes that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from scanflow_serve.runtime.measurements import Latency, Measurement

# Where nothing was measured (a run without a model slot) a call is taken to cost this.
UNMEASURED = Latency(p50_ms=0.1, p95_ms=0.1, samples=0)
LEAST_MS = 1e-4  # no call takes no time
THRIFTY = 1.05  # times the least cost of a row: noise of a measurement


class Curve:
    """Latency of one call by rows, while as many run as the cores hold; in constant time.

    Between two measured sizes it is interpolated; beyond *max_batch* a call is run in parts of
    that size.

    Attributes:
        max_batch: Rows of the largest call.
        contention: How many times as long a call takes in such company as alone.
        p50: In ms, by rows, 1 to *max_batch*; index 0 is 0.
        p95: As `p50`; never falls as rows grow.
        thrifty_batch: The most rows at which a row costs about as little as it can.
    """

    __slots__ = ("contention", "max_batch", "p50", "p95", "thrifty_batch")

    def __init__(
        self, latency: Mapping[int, Latency], max_batch: int, contention: float = 1.0
    ) -> None:
        """Keep *latency*, of calls alone, times their *contention*."""
        measured = dict(latency) or {1: UNMEASURED}
        self.max_batch = max_batch
        self.contention = contention
        self.p50 = _table({n: contention * at.p50_ms for n, at in measured.items()}, max_batch)
        tails = {n: contention * max(at.p50_ms, at.p95_ms) for n, at in measured.items()}
        self.p95 = _table(tails, max_batch)
        costs = [self.p50[rows] / rows for rows in range(1, max_batch + 1)]
        enough = min(costs) * THRIFTY
        self.thrifty_batch = max(n for n, cost in enumerate(costs, start=1) if cost <= enough)

    @classmethod
    def of(cls, measurement: Measurement | None, max_batch: int) -> Curve:
        """Return the curve of a measurement; of a trifle where nothing was measured.

        Where only contention was not, calls are taken not to slow each other down.
        """
        if measurement is None:
            return cls({}, max_batch)
        return cls(measurement.latency, max_batch, measurement.contention or 1.0)

    def p50_ms(self, rows: int) -> float:
        """Return the median latency of *rows* rows, in ms."""
        return self.p50[rows] if rows <= self.max_batch else self._in_parts(self.p50, rows)

    def p95_ms(self, rows: int) -> float:
        """Return the p95 latency of *rows* rows, in ms."""
        return self.p95[rows] if rows <= self.max_batch else self._in_parts(self.p95, rows)

    def pace(self, others: int, most: int) -> float:
        """Return what a call beside *others* takes, as a share of one beside *most*, or more."""
        if others >= most:
            return 1.0
        return (1.0 + (self.contention - 1.0) * others / most) / self.contention

    def _in_parts(self, table: tuple[float, ...], rows: int) -> float:
        whole, rest = divmod(rows, self.max_batch)
        return whole * table[self.max_batch] + table[rest]


def _table(measured: Mapping[int, float], most: int) -> tuple[float, ...]:
    """Return the latency at 0, 1, …, *most* rows, in ms, rising with rows.

    Below the smallest measured size the call costs as much as that size: the model's batch is
    fixed, and padded. Beyond the largest it grows as between the last two.
    """
    sizes = sorted(measured)
    heights: list[float] = []
    for size in sizes:  # noise must not make more rows look cheaper than fewer
        heights.append(max(measured[size], heights[-1] if heights else LEAST_MS))
    table = [0.0, *([heights[0]] * min(sizes[0], most))]
    for (left, low), (right, high) in pairwise(zip(sizes, heights, strict=True)):
        slope = (high - low) / (right - left)
        table.extend(low + slope * (n - left) for n in range(left + 1, min(right, most) + 1))
    last = sizes[-1]
    if most > last:
        slope = (
            (heights[-1] - heights[-2]) / (last - sizes[-2])
            if len(sizes) > 1
            else heights[-1] / last
        )
        table.extend(heights[-1] + slope * (n - last) for n in range(last + 1, most + 1))
    return tuple(table[: most + 1])
