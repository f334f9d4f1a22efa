"""Metrics read by Prometheus' own parser."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scanflow_serve.policies.errors import BackendError, RequestError
from scanflow_serve.runtime.requests import Response
from scanflow_serve.serving.histograms import BUCKETS, Histogram
from scanflow_serve.serving.metrics import Metrics
from scanflow_serve.serving.tally import MOST_SIZES


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return value by (name, labels joined by commas)."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def response(variant: str, **answered: Any) -> Response:
    return Response({}, ["id"], "m", "1", "w", variant, queue_ms=0.3, compute_ms=40.0, **answered)


def test_a_histogram_counts_a_value_on_a_bound_into_that_bucket() -> None:
    histogram = Histogram()
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, 11.0):
        histogram.observe(seconds)
    buckets = dict(histogram.buckets())
    assert buckets["0.0001"] == 2
    assert buckets["0.00025"] == 3
    assert buckets["10.0"] == 3
    assert buckets["+Inf"] == 4
    assert histogram.total == pytest.approx(BUCKETS[0] * 2.01 + 11.0)


def test_requests_are_counted_by_route_and_status_and_timed_by_route() -> None:
    metrics = Metrics()
    metrics.request("/predict", 200, 0.002)
    metrics.request("/predict", 200, 0.002)
    metrics.request("/predict", 503, 0.002)
    found = samples(metrics)
    assert found["scanflow_requests_total", "/predict,200"] == 2
    assert found["scanflow_requests_total", "/predict,503"] == 1
    assert found["scanflow_request_seconds_count", "/predict"] == 3
    assert found["scanflow_request_seconds_sum", "/predict"] == pytest.approx(0.006)
    assert found["scanflow_request_seconds_bucket", "0.001,/predict"] == 0
    assert found["scanflow_request_seconds_bucket", "0.0025,/predict"] == 3


def test_inferences_are_counted_by_variant_and_timed_by_name() -> None:
    metrics = Metrics()
    metrics.inference("digits", 5, response("a"), 0.05)
    metrics.inference("digits", 1, response("b"), 0.05)
    found = samples(metrics)
    assert found["scanflow_predictions_total", "digits,a"] == 5
    assert found["scanflow_inferences_total", "digits,b"] == 1
    assert found["scanflow_compute_seconds_sum", "digits"] == pytest.approx(0.08)
    assert found["scanflow_queue_seconds_bucket", "0.0005,digits"] == 2
    assert metrics.tally("digits").to_json("digits", "1")["inference_count"] == 6


def test_a_call_that_several_requests_share_is_counted_once() -> None:
    metrics = Metrics()
    for rows in (1, 3, 3):  # thirds don't add up to one in binary
        metrics.inference("digits", rows, response("a", batch_rows=7), 0.05)
    metrics.inference("digits", 2, response("a", batch_rows=2), 0.05)
    found = samples(metrics)
    assert found["scanflow_batches_total", "digits,a"] == 2
    assert found["scanflow_batch_rows_bucket", "4.0,digits"] == 1
    assert found["scanflow_batch_rows_bucket", "8.0,digits"] == 2
    assert found["scanflow_batch_rows_sum", "digits"] == pytest.approx(9)
    told = metrics.tally("digits").to_json("digits", "1")
    assert (told["inference_count"], told["execution_count"]) == (9, 2)
    sizes = {each["batch_size"]: each["compute_infer"] for each in told["batch_stats"]}
    assert sizes[7] == {"count": 1, "ns": 40_000_000}


def test_batch_sizes_are_bounded_and_none_is_lost() -> None:
    metrics = Metrics()
    for rows in range(1, 1001):
        metrics.inference("digits", rows, response("a"), 0.05)
    told = metrics.tally("digits").to_json("digits", "1")
    assert told["execution_count"] == 1000
    sizes = {each["batch_size"]: each["compute_infer"]["count"] for each in told["batch_stats"]}
    assert set(sizes) == {*range(1, MOST_SIZES + 1), 128, 256, 512, 1024}
    assert sizes[1024] == 1000 - 512
    assert samples(metrics)["scanflow_batch_rows_count", "digits"] == 1000


def test_goodput_is_the_accuracy_of_answers_in_time() -> None:
    metrics = Metrics()
    metrics.inference("digits", 1, response("a", accuracy=0.9), 0.05)
    metrics.inference("digits", 4, response("a", accuracy=0.8), 0.05)
    metrics.inference("digits", 1, response("a", accuracy=0.9, late=True), 0.05)
    found = samples(metrics)
    assert found["scanflow_goodput_total", "digits,a"] == 2
    assert found["scanflow_goodput_accuracy_total", "digits,a"] == pytest.approx(1.7)
    assert found["scanflow_deadline_misses_total", "late,digits"] == 1


def test_what_was_not_answered_is_counted_by_reason() -> None:
    metrics = Metrics()
    for error in (RequestError(503, "full"), RequestError(504, "late"), BackendError("broken")):
        metrics.failure("digits", error, 0.01)
    found = samples(metrics)
    for reason in ("queue", "deadline", "error"):
        assert found["scanflow_inference_failures_total", f"digits,{reason}"] == 1
    assert found["scanflow_deadline_misses_total", "refused,digits"] == 1


def test_gauges_are_read_when_asked_for() -> None:
    metrics = Metrics()
    ready = False
    metrics.watch(lambda: 3, lambda: ready)
    assert samples(metrics)["scanflow_ready", ""] == 0
    ready = True
    assert samples(metrics)["scanflow_ready", ""] == 1
    assert samples(metrics)["scanflow_in_flight", ""] == 3
