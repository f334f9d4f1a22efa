from __future__ import annotations

import dataclasses

import pytest

from scanflow_serve.serving import traffic
from scanflow_serve.serving.traffic import Totals, Traffic, quantile_ms

BOUNDS = (0.001, 0.002, 0.004)


class Counters:
    """Counters that a test turns on, and a clock."""

    def __init__(self):
        self.now = Totals(0, 0, 0, BOUNDS, (0, 0, 0, 0))
        self.time = 1000.0

    def read(self):
        return self.now

    def clock(self):
        return self.time


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def running(counters):
    return Traffic(counters.read, interval_s=5.0, clock=counters.clock)


def test_a_point_is_what_came_since_the_one_before(counters, running):
    counters.now = Totals(10, 2, 30, BOUNDS, (0, 10, 2, 0))
    counters.time = 1005.0
    running.sample()
    counters.now = dataclasses.replace(counters.now, answered=11, rows=31, latency=(1, 10, 2, 0))
    counters.time = 1010.0
    running.sample()
    told = running.to_json()
    assert told["interval_s"] == 5.0
    first, second = told["points"]
    assert (first["requests"], first["failed"], first["rows"]) == (10, 2, 30)
    assert first["p50_ms"] == pytest.approx(1.6)
    assert (second["at"], second["requests"], second["failed"], second["rows"]) == (1010.0, 1, 0, 1)
    assert second["p50_ms"] == pytest.approx(0.5)


def test_latencies_of_no_request_are_not_known(running):
    running.sample()
    (point,) = running.to_json()["points"]
    assert (point["requests"], point["p50_ms"], point["p99_ms"]) == (0, None, None)


def test_counts_that_a_reload_took_along_are_not_negative_traffic(counters, running):
    counters.now = Totals(5, 0, 50, BOUNDS, (5, 0, 0, 0))
    running.sample()
    counters.now = Totals(6, 0, 1, BOUNDS, (6, 0, 0, 0))
    running.sample()
    assert [point["rows"] for point in running.to_json()["points"]] == [50, 0]


def test_an_hour_is_kept(counters, running):
    for index in range(traffic.KEPT + 3):
        counters.time = float(index)
        running.sample()
    points = running.to_json()["points"]
    assert len(points) * traffic.INTERVAL_S == 3600
    assert points[0]["at"] == 3.0


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((4, 0, 0, 0), 0.5, 0.5),
        ((1, 1, 2, 0), 0.5, 2.0),
        ((1, 1, 2, 0), 1.0, 4.0),
        ((0, 0, 0, 3), 0.5, 4.0),  # above the last bound nothing is known but that
        ((0, 0, 0, 0), 0.5, None),
    ],
)
def test_quantiles_lie_evenly_in_their_bucket(counts, q, expected):
    assert quantile_ms(counts, BOUNDS, q) == (expected and pytest.approx(expected))


def test_only_what_is_later_than_a_known_point_is_told(counters, running):
    for at in (1005.0, 1010.0, 1015.0):
        counters.time = at
        running.sample()
    assert [point["at"] for point in running.to_json(1005.0)["points"]] == [1010.0, 1015.0]
    assert running.to_json(1015.0)["points"] == []
    assert len(running.to_json()["points"]) == 3


def test_a_point_tells_who_answered_what_waited_and_what_came_too_late(counters, running):
    counters.now = Totals(
        5, 1, 5, BOUNDS, (5, 0, 0, 0), missed=2, queued=7, variants={"near": 4, "far": 1}
    )
    running.sample()
    counters.now = dataclasses.replace(counters.now, missed=3, queued=0, variants={"near": 9})
    running.sample()
    first, second = running.to_json()["points"]
    assert (first["missed"], first["queued"]) == (2, 7)
    assert first["variants"] == {"near": 4, "far": 1}
    assert (second["missed"], second["queued"]) == (1, 0)
    assert second["variants"] == {"near": 5}
