"""What the server counts: Prometheus metrics in a registry of their own, and OIP statistics.

Labels are bounded: routes are templates, models and variants those of the plan. Children are
looked up once and kept, so that recording a request takes about 5 µs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.requests import Response

# Seconds; from a tiny MLP (0.1 ms) to a large model on a small board.
BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)


@dataclass(slots=True)
class Tally:
    """Counts of one public name since the start; durations in ns, as OIP's statistics want."""

    rows: int = 0
    success: int = 0
    success_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    last_ms: int = 0  # Unix time of the last inference, ms
    batches: dict[int, tuple[int, int]] = field(default_factory=dict)  # rows -> (count, ns)

    def to_json(self, name: str, version: str) -> dict[str, Any]:
        """Return the entry of OIP's statistics extension."""
        nothing = {"count": 0, "ns": 0}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": self.success,
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
                    "compute_infer": {"count": count, "ns": ns},
                    "compute_output": nothing,
                }
                for rows, (count, ns) in sorted(self.batches.items())
            ],
        }


MOST_BATCH_SIZES = 64  # kept a model; requests may have up to limits.max_rows different ones


class Metrics:
    """Counters of one server process; called from its event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tallies: dict[str, Tally] = {}
        self._children: dict[tuple[str, int], tuple[Callable[[], None], Any]] = {}
        self._inference: dict[tuple[str, str], tuple[Any, Any, Any, Any]] = {}
        registry = self.registry
        self._requests = Counter(
            "scanflow_requests", "HTTP requests.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "scanflow_request_seconds",
            "From the first header to the last byte of the answer.",
            ("route",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._predictions = Counter(
            "scanflow_predictions", "Rows predicted.", ("model", "variant"), registry=registry
        )
        self._inferences = Counter(
            "scanflow_inferences", "Inference calls.", ("model", "variant"), registry=registry
        )
        self._failures = Counter(
            "scanflow_inference_failures", "Refused or failed.", ("model",), registry=registry
        )
        self._compute = Histogram(
            "scanflow_compute_seconds",
            "Inference, without waiting.",
            ("model",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._queue = Histogram(
            "scanflow_queue_seconds",
            "Wait before inference.",
            ("model",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge("scanflow_in_flight", "Requests being answered.", registry=registry)
        self._ready = Gauge(
            "scanflow_ready", "1 while predictions are answered.", registry=registry
        )
        self._plan = Gauge(
            "scanflow_plan", "1: what runs.", ("policy", "run", "variant"), registry=registry
        )
        ProcessCollector(registry=registry)

    def watch(self, in_flight: Callable[[], float], ready: Callable[[], float]) -> None:
        """Read the two gauges from their owner when they are asked for."""
        self._in_flight.set_function(in_flight)
        self._ready.set_function(ready)

    def planned(self, plan: Plan) -> None:
        """Tell what runs."""
        self._plan.clear()
        self._plan.labels(plan.policy, plan.chosen.run, plan.chosen.variant_id).set(1)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered HTTP request."""
        children = self._children.get((route, status))
        if children is None:
            count = self._requests.labels(route, str(status)).inc
            children = (count, self._seconds.labels(route).observe)
            self._children[route, status] = children
        children[0]()
        children[1](seconds)

    def inference(self, name: str, rows: int, response: Response, seconds: float) -> None:
        """Count one answered inference of the public *name*."""
        tally = self.tally(name)
        compute_ns = int(response.compute_ms * 1e6)
        tally.rows += rows
        tally.success += 1
        tally.success_ns += int(seconds * 1e9)
        tally.queue_ns += int(response.queue_ms * 1e6)
        tally.compute_ns += compute_ns
        tally.last_ms = time.time_ns() // 1_000_000
        count, ns = tally.batches.get(rows, (0, 0))
        if count or len(tally.batches) < MOST_BATCH_SIZES:
            tally.batches[rows] = (count + 1, ns + compute_ns)
        children = self._inference.get((name, response.variant))
        if children is None:
            children = (
                self._predictions.labels(name, response.variant).inc,
                self._inferences.labels(name, response.variant).inc,
                self._compute.labels(name).observe,
                self._queue.labels(name).observe,
            )
            self._inference[name, response.variant] = children
        children[0](rows)
        children[1]()
        children[2](response.compute_ms / 1000)
        children[3](response.queue_ms / 1000)

    def failure(self, name: str, seconds: float) -> None:
        """Count one refused or failed inference of the public *name*."""
        tally = self.tally(name)
        tally.failed += 1
        tally.failed_ns += int(seconds * 1e9)
        self._failures.labels(name).inc()

    def tally(self, name: str) -> Tally:
        """Return the counts of a public name."""
        tally = self.tallies.get(name)
        if tally is None:
            tally = self.tallies[name] = Tally()
        return tally

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
