"""What the server counts: Prometheus metrics in a registry of their own, and OIP statistics.

Labels are bounded: routes are templates, models and variants those of the policy in force; what a
reload leaves behind is forgotten. Requests count into plain numbers, which become Prometheus'
families when they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.requests import Response
from scanflow_serve.serving.engine_metrics import engine_families
from scanflow_serve.serving.histograms import BUCKETS, DECIMALS, Histogram
from scanflow_serve.serving.tally import Tally
from scanflow_serve.serving.traffic import Totals, Traffic

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine

# Why an inference was not answered, by the status of its refusal.
REASONS = {503: "queue", 504: "deadline"}


@dataclass(slots=True)
class Answers:
    """What one variant has answered under one public name.

    Attributes:
        calls: Of the variant; a call that several requests share counts once.
        timely: Requests answered within their deadline.
        accuracy: Of those, each request's expected accuracy, summed.
    """

    rows: int = 0
    requests: int = 0
    calls: float = 0.0
    timely: int = 0
    accuracy: float = 0.0


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
        self._answers: dict[tuple[str, str], Answers] = {}  # (name, variant)
        self._failures: Counter[tuple[str, str]] = Counter()  # (name, reason)
        self._late: Counter[str] = Counter()  # name
        self._in_flight: Callable[[], float] = lambda: 0
        self._ready: Callable[[], float] = lambda: 0
        self._engine: Engine | None = None
        self._registry = CollectorRegistry()
        self._inference_routes = tuple(inference)
        self.traffic = Traffic(self.totals)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch(self, in_flight: Callable[[], float], ready: Callable[[], float]) -> None:
        """Read the two gauges from their owner when they are asked for."""
        self._in_flight = in_flight
        self._ready = ready

    def serve(self, engine: Engine) -> None:
        """Tell of *engine* from now on; forget names and variants that its policy has not."""
        self._engine = engine
        policy = engine.policy_file.policy
        names = {policy.name, *policy.workflows, *policy.models}
        variants = {verdict.candidate.variant_id for verdict in engine.plan.verdicts}
        variants |= {part for variant in variants for part in variant.split("+")}
        for counts in (self.tallies, self._late):
            for name in counts.keys() - names:
                del counts[name]
        for name, reason in [key for key in self._failures if key[0] not in names]:
            del self._failures[name, reason]
        for name, variant in list(self._answers):
            if name not in names or variant not in variants:
                del self._answers[name, variant]

    def add(self, collector: Collector) -> None:
        """Expose another's families, too."""
        self._registry.register(collector)

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
        tally = self.tallies.get(name) or self.tally(name)
        tally.answered(rows, response, seconds)
        key = (name, response.variant)
        answers = self._answers.get(key) or self._answers.setdefault(key, Answers())
        answers.rows += rows
        answers.requests += 1
        answers.calls += rows / (response.batch_rows or rows)
        if response.late:
            self._late[name] += 1
        else:
            answers.timely += 1
            answers.accuracy += response.accuracy or 0.0

    def failure(self, name: str, error: Exception, seconds: float) -> None:
        """Count one refused or failed inference of the public *name*."""
        tally = self.tally(name)
        tally.failed += 1
        tally.failed_ns += int(seconds * 1e9)
        status = error.status if isinstance(error, RequestError) else 0
        self._failures[name, REASONS.get(status, "error")] += 1

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
            missed=sum(self._late.values())
            + sum(n for (_, reason), n in self._failures.items() if reason == "deadline"),
            queued=0 if self._engine is None else self._engine.counters().queued,
            variants=self._requests_by_variant(),
        )

    def _requests_by_variant(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, variant), answers in self._answers.items():
            found[variant] += answers.requests
        return found

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
        if self._engine is not None:
            yield from engine_families(self._engine)

    def _inferences(self) -> Iterator[Metric]:
        described = {
            "rows": _counter("predictions", "Rows predicted.", "model", "variant"),
            "requests": _counter("inferences", "Inferences answered.", "model", "variant"),
            "calls": _counter("batches", "Calls of the variant.", "model", "variant"),
            "timely": _counter("goodput", "Answered in time.", "model", "variant"),
            "accuracy": _counter(
                "goodput_accuracy", "Their expected accuracy, summed.", "model", "variant"
            ),
        }
        for key, answers in self._answers.items():
            for name, family in described.items():
                family.add_metric(key, round(getattr(answers, name), DECIMALS))
        yield from described.values()
        failures = _counter("inference_failures", "Refused or failed.", "model", "reason")
        for pair, count in self._failures.items():
            failures.add_metric(pair, count)
        yield failures
        yield self._misses()
        compute = {name: tally.compute for name, tally in self.tallies.items()}
        queue = {name: tally.queue for name, tally in self.tallies.items()}
        batches = {name: tally.batches() for name, tally in self.tallies.items()}
        yield _histogram("compute_seconds", "Inference, without waiting.", "model", compute)
        yield _histogram("queue_seconds", "Wait before inference.", "model", queue)
        yield _histogram("batch_rows", "Rows of a call.", "model", batches)

    def _misses(self) -> Metric:
        """Return deadlines not held: refused before inference, or answered late."""
        misses = _counter("deadline_misses", "Refused, or answered late.", "model", "how")
        for (name, reason), count in self._failures.items():
            if reason == "deadline":
                misses.add_metric((name, "refused"), count)
        for name, count in self._late.items():
            misses.add_metric((name, "late"), count)
        return misses


def _counter(name: str, described: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"scanflow_{name}", described, labels=labels)


def _histogram(
    name: str, described: str, label: str, histograms: Mapping[str, Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"scanflow_{name}", described, labels=(label,))
    for value, histogram in histograms.items():
        family.add_metric([value], buckets=histogram.buckets(), sum_value=histogram.total)
    return family
