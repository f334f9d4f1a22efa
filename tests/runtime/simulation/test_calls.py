from __future__ import annotations

import pytest
from simulation_worlds import FAST, option

from scanflow_serve.runtime.simulation.calls import Calls, row_cost_s


def test_calls_have_the_measured_median_and_p95() -> None:
    calls = Calls(1)
    found = sorted(calls.took_s(FAST, 8) * 1000 for _ in range(20_000))
    assert found[10_000] == pytest.approx(FAST.curve.p50_ms(8), rel=0.01)
    assert found[19_000] == pytest.approx(FAST.curve.p95_ms(8), rel=0.02)


def test_seed_decides_the_calls() -> None:
    one, same, other = Calls(1), Calls(1), Calls(2)
    drawn = [one.took_s(FAST, 1) for _ in range(5)]
    assert drawn == [same.took_s(FAST, 1) for _ in range(5)]
    assert drawn != [other.took_s(FAST, 1) for _ in range(5)]


def test_calls_take_at_most_twice_their_p95_however_wide_their_spread() -> None:
    noisy = option("noisy", 1.0, 1.0, spread=16.0)
    calls = Calls(1)
    slowest = max(calls.took_s(noisy, 1) * 1000 for _ in range(20_000))
    assert slowest == pytest.approx(2 * noisy.curve.p95_ms(1))


def test_calls_without_spread_take_their_median() -> None:
    steady = option("steady", 1.0, 2.0, spread=1.0)
    assert Calls(1).took_s(steady, 4) == pytest.approx(0.009)


def test_row_costs_least_in_the_thriftiest_batch_on_the_cores_there_are() -> None:
    assert row_cost_s(FAST, cores=2) == pytest.approx((1.0 / 32 + 1.5) / 1000)
    wide = option("wide", 1.0, 1.5, threads=4)
    assert row_cost_s(wide, cores=2) == pytest.approx(2 * row_cost_s(FAST, cores=2))
