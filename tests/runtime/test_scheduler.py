"""Admission: what is refused, when, and with what advice."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.measurements import Latency, Measurement
from scanflow_serve.runtime.scheduler.admission_old import Admission, Cost, cost

MEASURED = Measurement(
    load_s=0.1,
    memory_mb=10,
    latency={1: Latency(1.0, 2.0, 100), 8: Latency(4.0, 5.0, 100), 32: Latency(10.0, 12.0, 100)},
    throughput_rps=3200,
    best_batch=32,
    size_mb=1,
)


@pytest.mark.parametrize(
    ("rows", "p95_ms"), [(1, 2.0), (2, 5.0), (8, 5.0), (9, 12.0), (32, 12.0), (33, 24.0)]
)
def test_cost_is_that_of_the_next_measured_batch(rows: int, p95_ms: float) -> None:
    assert cost(MEASURED, rows).p95_ms == p95_ms


def test_request_that_fits_is_admitted() -> None:
    admission = Admission(workers=1, max_queue=4)
    admission.admit(Cost(1, 2), deadline_ms=2)
    assert (admission.in_flight, admission.queued) == (1, 0)


def test_request_slower_than_its_deadline_is_refused_before_it_costs_anything() -> None:
    admission = Admission(workers=1, max_queue=4)
    with pytest.raises(RequestError, match=r"0 ms of queue and 2 ms .* exceed 1 ms") as refusal:
        admission.admit(Cost(1, 2), deadline_ms=1)
    assert (refusal.value.status, refusal.value.retry_after_s) == (504, 1.0)
    assert admission.in_flight == 0


def test_wait_behind_admitted_work_counts_against_the_deadline() -> None:
    admission = Admission(workers=1, max_queue=10)
    for _ in range(3):
        admission.admit(Cost(10, 12), deadline_ms=100)
    assert admission.wait_ms == 30
    with pytest.raises(RequestError, match="30 ms of queue and 12 ms"):
        admission.admit(Cost(10, 12), deadline_ms=41)
    admission.admit(Cost(10, 12), deadline_ms=42)


def test_workers_share_the_backlog() -> None:
    admission = Admission(workers=2, max_queue=10)
    admission.admit(Cost(10, 12), deadline_ms=100)
    assert admission.wait_ms == 0
    admission.admit(Cost(10, 12), deadline_ms=100)
    assert admission.wait_ms == 10


def test_full_queue_is_refused_with_retry_after() -> None:
    admission = Admission(workers=1, max_queue=2)
    for _ in range(3):  # one runs, two wait
        admission.admit(Cost(1, 1), deadline_ms=1e6)
    with pytest.raises(RequestError, match=r"scheduling\.max_queue is 2") as refusal:
        admission.admit(Cost(1, 1), deadline_ms=1e6)
    assert refusal.value.status == 503
    assert refusal.value.retry_after_s is not None


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 50), st.floats(0.1, 500)), max_size=80))
def test_books_balance_whatever_comes_and_goes(
    events: list[tuple[bool, float, float]],
) -> None:
    admission = Admission(workers=2, max_queue=5)
    inside: list[Cost] = []
    for arrives, p50_ms, deadline_ms in events:
        if arrives:
            expected = Cost(p50_ms, p50_ms * 1.5)
            with suppress(RequestError):
                admission.admit(expected, deadline_ms)
                inside.append(expected)
        elif inside:
            admission.release(inside.pop(0))
        assert admission.in_flight == len(inside) <= 2 + 5
        assert admission.wait_ms >= 0
    for expected in inside:
        admission.release(expected)
    assert (admission.in_flight, admission.wait_ms) == (0, 0.0)
