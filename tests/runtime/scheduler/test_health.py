"""How a variant's figures follow what its calls really take."""

from __future__ import annotations

import random

import pytest

from scanflow_serve.runtime.scheduler.health import Health


def test_ratio_settles_at_what_calls_take_of_their_profile() -> None:
    health, rng = Health(), random.Random(1)
    for call in range(100):
        health.observe(20 * rng.lognormvariate(0, 0.1), 10, call / 10)
    assert health.ratio == pytest.approx(2.0, rel=0.1)


def test_first_calls_settle_it_at_once() -> None:
    health = Health()
    for call in range(4):
        health.observe(20, 10, call / 10)
    assert health.ratio == pytest.approx(2.0, rel=0.2)


def test_single_stall_moves_a_settled_ratio_little() -> None:
    health = Health()
    for call in range(50):
        health.observe(10, 10, call / 10)
    health.observe(1000, 10, 6.0)
    assert health.ratio < 1.15


def test_tail_settles_where_one_call_in_fifty_exceeds_it() -> None:
    health, rng = Health(), random.Random(2)
    exceeded = 0
    for call in range(6000):
        took_ms = 10 * rng.lognormvariate(0, 0.4)
        if call >= 1000:
            exceeded += took_ms > 12 * health.ratio * health.tail
        health.spread(took_ms, 12)
    assert exceeded / 5000 == pytest.approx(0.02, abs=0.005)


def test_tail_of_calls_that_keep_to_their_profile_stays_at_one() -> None:
    health = Health()
    for _ in range(200):
        health.spread(10, 12)
    assert health.tail == 1.0


def test_ratio_of_what_does_not_run_follows_the_host() -> None:
    health = Health()
    health.observe(10, 10, 0.0)
    for tick in range(1, 50):
        health.drift(2.0, tick / 10)
    assert health.ratio == 1.0, "what was seen lately is believed"
    for tick in range(51, 300):
        health.drift(2.0, tick / 10)
    assert health.ratio == pytest.approx(2.0, rel=0.01)


def test_ratio_returns_to_one_where_nothing_runs() -> None:
    health = Health()
    for call in range(30):
        health.observe(30, 10, call / 10)
    for tick in range(30, 200):
        health.drift(None, tick / 10)
    assert health.ratio == pytest.approx(1.0, abs=0.02)


def test_pauses_double_until_it_returns() -> None:
    health = Health()
    assert [health.open(0.0, 1.0, 5.0) for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert not health.may_answer(4.9)
    assert health.may_answer(5.0)
    health.close()
    assert health.closed
    assert health.open(0.0, 1.0, 5.0) == 1.0
