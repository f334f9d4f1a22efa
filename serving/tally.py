"""What one public name has done since the start, as OIP's statistics and Prometheus want it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from scanflow_serve.runtime.requests import Response
from scanflow_serve.serving.histograms import Histogram

MOST_SIZES = 64  # told apart; requests may have up to limits.max_rows different ones
BATCH_ROWS = tuple(2.0**n for n in range(13))


@dataclass(slots=True)
class Calls:
    """Calls of one size; of a call that several requests share, each counts its part."""

    count: float = 0.0
    ns: float = 0.0


@dataclass(slots=True)
class Tally:
    """Counts of one public name since the start; durations in ns, as OIP's statistics want.

    A call that answers several requests is counted by each of them in part, by its rows, so that
    all together count it once.

    Attributes:
        last_ms: Unix time of the last inference, ms.
        sizes: Calls by rows; once `MOST_SIZES` are known, others are rounded up to a power of 2.
    """

    rows: int = 0
    success: int = 0
    success_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    last_ms: int = 0
    sizes: dict[int, Calls] = field(default_factory=dict)
    compute: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)

    def answered(self, rows: int, response: Response, seconds: float) -> None:
        """Count one answer, *seconds* after the request was understood."""
        compute_ns = int(response.compute_ms * 1e6)
        self.rows += rows
        self.success += 1
        self.success_ns += int(seconds * 1e9)
        self.queue_ns += int(response.queue_ms * 1e6)
        self.compute_ns += compute_ns
        self.last_ms = time.time_ns() // 1_000_000
        self.compute.observe(response.compute_ms / 1000)
        self.queue.observe(response.queue_ms / 1000)
        size = response.batch_rows or rows
        calls = self.sizes.get(size)
        if calls is None:
            calls = self._of_size(size)
        share = rows / size
        calls.count += share
        calls.ns += compute_ns * share

    def _of_size(self, size: int) -> Calls:
        if len(self.sizes) >= MOST_SIZES:
            size = 1 << (size - 1).bit_length()
        return self.sizes.setdefault(size, Calls())

    def batches(self) -> Histogram:
        """Return the calls by their rows."""
        histogram = Histogram(BATCH_ROWS)
        for rows, calls in self.sizes.items():
            histogram.observe_part(rows, calls.count)
        return histogram

    def to_json(self, name: str, version: str) -> dict[str, Any]:
        """Return the entry of OIP's statistics extension."""
        nothing = {"count": 0, "ns": 0}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": round(sum(calls.count for calls in self.sizes.values())),
            "inference_stats": {
                "success": {"count": self.success, "ns": self.success_ns},
                "fail": {"count": self.failed, "ns": self.failed_ns},
                "queue": {"count": self.success, "ns": self.queue_ns},
                "compute_input": nothing,  # part of compute_infer: there is no copy to a device
                "compute_infer": {"count": self.success, "ns": self.compute_ns},
                "compute_output": nothing,
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": nothing,
                    "compute_infer": {"count": round(calls.count), "ns": round(calls.ns)},
                    "compute_output": nothing,
                }
                for rows, calls in sorted(self.sizes.items())
            ],
        }
