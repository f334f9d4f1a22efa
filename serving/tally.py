"""What one public name has done since the start, as OIP's statistics and Prometheus want it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from scanflow_serve.runtime.requests import Response
from scanflow_serve.serving.histograms import Histogram

MOST_BATCH_SIZES = 64  # kept a model; requests may have up to limits.max_rows different ones
BATCH_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


@dataclass(slots=True)
class Tally:
    """Counts of one public name since the start; durations in ns, as OIP's statistics want.

    A call that answers several requests is counted by each of them in part, by its rows, so that
    all together count it once.

    Attributes:
        calls: Of the model; fewer than requests where several share one.
        last_ms: Unix time of the last inference, ms.
        sizes: Rows of a call -> (calls, ns).
        batches: Calls by rows.
    """

    rows: int = 0
    success: int = 0
    success_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    calls: float = 0.0
    last_ms: int = 0
    sizes: dict[int, tuple[float, float]] = field(default_factory=dict)
    compute: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    batches: Histogram = field(default_factory=lambda: Histogram(BATCH_ROWS))

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
        share = rows / size
        self.calls += share
        self.batches.observe(size, share)
        calls, ns = self.sizes.get(size, (0.0, 0.0))
        if calls or len(self.sizes) < MOST_BATCH_SIZES:
            self.sizes[size] = (calls + share, ns + compute_ns * share)

    def to_json(self, name: str, version: str) -> dict[str, Any]:
        """Return the entry of OIP's statistics extension."""
        nothing = {"count": 0, "ns": 0}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": round(self.calls),
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
                    "compute_infer": {"count": round(calls), "ns": round(ns)},
                    "compute_output": nothing,
                }
                for rows, (calls, ns) in sorted(self.sizes.items())
            ],
        }
