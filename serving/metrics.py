"""What the server counts: Prometheus metrics in a registry of their own, and OIP statistics.

Labels are bounded: routes are templates, models and variants those of the plan. Requests count
into plain numbers, which become Prometheus' families when they are asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.requests import Response
from scanflow_serve.serving.histograms import BUCKETS, Histogram
from scanflow_serve.serving.traffic import Totals, Traffic


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


@dataclass(slots=True)
class Timing:
    """Where the inferences of one public name spend their time."""

    compute: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)


class Metrics(Collector):
    """Counters of one server process; called from its event loop only.

    Args:
        inference: Templates of the routes that answer inferences.

    Attributes:
        traffic: What came over the last hour.
    """

    def __init__(self, inference: Collection[str] = ()) -> None:
        self.tallies: dict[str, Tally] = {}
        self._requests: dict[tuple[str, int], int] = {}  # (route, status)
        self._seconds: dict[str, Histogram] = {}  # route
        self._answers: dict[tuple[str, str], tuple[int, int]] = {}  # (name, variant): rows, calls
        self._timings: dict[str, Timing] = {}  # name
        self._in_flight: Callable[[], float] = lambda: 0
        self._ready: Callable[[], float] = lambda: 0
        self._plan: tuple[str, str, str] | None = None
        self._registry = CollectorRegistry()
        self._inference_routes = tuple(inference)
        self.traffic = Traffic(self.totals)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch(self, in_flight: Callable[[], float], ready: Callable[[], float]) -> None:
        """Read the two gauges from their owner when they are asked for."""
        self._in_flight = in_flight
        self._ready = ready

    def add(self, collector: Collector) -> None:
        """Expose another's families, too."""
        self._registry.register(collector)

    def planned(self, plan: Plan) -> None:
        """Tell what runs."""
        self._plan = (plan.policy, plan.chosen.run, plan.chosen.variant_id)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered HTTP request."""
        key = (route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        histogram = self._seconds.get(route)
        if histogram is None:
            histogram = self._seconds[route] = Histogram()
        histogram.observe(seconds)

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
        key = (name, response.variant)
        predicted, calls = self._answers.get(key, (0, 0))
        self._answers[key] = (predicted + rows, calls + 1)
        timing = self._timings.get(name)
        if timing is None:
            timing = self._timings[name] = Timing()
        timing.compute.observe(response.compute_ms / 1000)
        timing.queue.observe(response.queue_ms / 1000)

    def failure(self, name: str, seconds: float) -> None:
        """Count one refused or failed inference of the public *name*."""
        tally = self.tally(name)
        tally.failed += 1
        tally.failed_ns += int(seconds * 1e9)

    def tally(self, name: str) -> Tally:
        """Return the counts of a public name."""
        tally = self.tallies.get(name)
        if tally is None:
            tally = self.tallies[name] = Tally()
        return tally

    def totals(self) -> Totals:
        """Return the counts of all inferences, since the start."""
        routes = self._inference_routes
        statuses = [(s, n) for (route, s), n in self._requests.items() if route in routes]
        seconds = [self._seconds[route].counts for route in routes if route in self._seconds]
        return Totals(
            answered=sum(count for status, count in statuses if status < 300),
            failed=sum(count for status, count in statuses if status >= 300),
            rows=sum(tally.rows for tally in self.tallies.values()),
            bounds=BUCKETS,
            latency=[sum(each) for each in zip([0.0] * (len(BUCKETS) + 1), *seconds, strict=True)],
        )

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the families, as prometheus_client asks for them."""
        requests = _counter("requests", "HTTP requests.", "route", "status")
        for (route, status), count in self._requests.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        described = "From the first header to the last byte of the answer."
        yield _histogram("request_seconds", described, "route", self._seconds)
        yield from self._inferences()
        yield GaugeMetricFamily(
            "scanflow_in_flight", "Requests being answered.", value=self._in_flight()
        )
        yield GaugeMetricFamily(
            "scanflow_ready", "1 while predictions are answered.", value=self._ready()
        )
        plan = GaugeMetricFamily(
            "scanflow_plan", "1: what runs.", labels=("policy", "run", "variant")
        )
        if self._plan is not None:
            plan.add_metric(self._plan, 1)
        yield plan

    def _inferences(self) -> Iterator[Metric]:
        predictions = _counter("predictions", "Rows predicted.", "model", "variant")
        inferences = _counter("inferences", "Inference calls.", "model", "variant")
        for key, (rows, calls) in self._answers.items():
            predictions.add_metric(key, rows)
            inferences.add_metric(key, calls)
        failures = _counter("inference_failures", "Refused or failed.", "model")
        for name, tally in self.tallies.items():
            if tally.failed:
                failures.add_metric([name], tally.failed)
        yield from (predictions, inferences, failures)
        compute = {name: timing.compute for name, timing in self._timings.items()}
        queue = {name: timing.queue for name, timing in self._timings.items()}
        yield _histogram("compute_seconds", "Inference, without waiting.", "model", compute)
        yield _histogram("queue_seconds", "Wait before inference.", "model", queue)


def _counter(name: str, described: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"scanflow_{name}", described, labels=labels)


def _histogram(
    name: str, described: str, label: str, histograms: dict[str, Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"scanflow_{name}", described, labels=(label,))
    for value, histogram in histograms.items():
        family.add_metric([value], buckets=histogram.buckets(), sum_value=histogram.total)
    return family
