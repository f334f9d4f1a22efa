"""Rates of arrival, percentiles of latency."""

from __future__ import annotations

import random

import pytest

from scanflow_serve.runtime.scheduler.rates import Rate, Window


def ticked(rate: Rate, counts: list[int], since: float = 0.0) -> None:
    """Let *counts* arrive, one request each, in ticks of 0.1 s."""
    for tick, count in enumerate(counts, start=1):
        for _ in range(count):
            rate.add(1)
        rate.tick(since + tick / 10)


def test_steady_rate_is_found_before_its_span_has_passed() -> None:
    rate = Rate(0.0, 0.5, 4.0)
    ticked(rate, [10, 10, 10])
    assert (rate.fast, rate.slow) == (pytest.approx(100), pytest.approx(100))


def test_chance_does_not_raise_the_rate_that_is_planned_for() -> None:
    rate, rng, planned = Rate(0.0, 0.5, 4.0), random.Random(3), []
    for tick in range(1, 600):
        for _ in range(sum(rng.random() < 0.01 for _ in range(1000))):
            rate.add(1)
        rate.tick(tick / 10)
        planned.append(rate.cautious)
    settled = planned[100:]
    assert sum(settled) / len(settled) == pytest.approx(100, rel=0.05)


def test_surge_is_followed_within_half_a_second_and_outlasts_a_lull() -> None:
    rate = Rate(0.0, 0.5, 4.0)
    ticked(rate, [10] * 100)
    ticked(rate, [50] * 5, since=10.0)
    assert rate.cautious > 250
    ticked(rate, [50] * 100, since=10.5)
    ticked(rate, [0] * 10, since=20.5)
    assert rate.cautious > 350


def test_surge_shows_between_ticks() -> None:
    rate = Rate(0.0, 0.5, 4.0)
    ticked(rate, [10] * 20)
    assert rate.current(2.0) == pytest.approx(100)
    for _ in range(100):
        rate.add(1)
    assert rate.current(2.02) == pytest.approx((100 - 2 * 10) / 0.02)


def test_large_requests_count_by_row_and_are_no_surge() -> None:
    rate, rng, planned = Rate(0.0, 0.5, 4.0), random.Random(4), []
    for tick in range(1, 600):
        if rng.random() < 0.3:
            rate.add(32)
        rate.tick(tick / 10)
        planned.append(rate.cautious)
    settled = planned[100:]
    assert sum(settled) / len(settled) == pytest.approx(96, rel=0.2)


def test_percentiles_are_of_the_latest_answers() -> None:
    window = Window(most=200, span_s=10)
    window.add(0.0, 1e6)  # too old
    for ms in range(1, 101):
        window.add(10.5, float(ms))
    assert window.percentiles(11.0, (50, 95, 100)) == [50, 95, 100]


def test_percentiles_of_nothing_are_zero() -> None:
    assert Window().percentiles(0.0, (50, 99)) == [0.0, 0.0]
