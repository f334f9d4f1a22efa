"""What requests cost the event loop, from readings of its thread's clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scanflow_serve.runtime.engine.upkeep import FEWEST, Upkeep


def test_upkeep_is_the_processor_time_of_a_request() -> None:
    upkeep = Upkeep()
    for reading in range(50):
        upkeep.tick(7.0 + reading * 0.010, reading * 100)
    assert upkeep.ms == pytest.approx(0.1)


def test_upkeep_follows_what_requests_cost_by_now() -> None:
    upkeep = Upkeep()
    cpu_s = 0.0
    for reading in range(100):
        cpu_s += 0.010 if reading < 50 else 0.030
        upkeep.tick(cpu_s, reading * 100)
    assert upkeep.ms == pytest.approx(0.3, rel=0.01)


def test_loop_with_few_requests_tells_nothing_until_they_are_more() -> None:
    upkeep = Upkeep()
    upkeep.tick(0.0, 0)
    for reading in range(1, FEWEST):
        upkeep.tick(reading * 0.001, reading)
        assert upkeep.ms is None
    upkeep.tick(FEWEST * 0.001, FEWEST)
    assert upkeep.ms == pytest.approx(1.0)


def test_what_an_idle_loop_does_is_no_requests_cost() -> None:
    upkeep = Upkeep()
    cpu_s = 0.0
    for reading in range(10 * FEWEST + 1):
        cpu_s += 0.001 if reading % 10 == 0 else 0.5
        upkeep.tick(cpu_s, reading // 10)
    assert upkeep.ms == pytest.approx(1.0)


def test_running_engine_tells_its_upkeep(world: Any, ask: Any) -> None:
    engine = world.engine()

    async def scenario() -> Any:
        await engine.start()
        while engine.state()["upkeep_ms"] is None:
            await asyncio.gather(*(ask(engine, at=at) for at in range(2 * FEWEST)))
            await asyncio.sleep(0.05)
        await engine.stop()
        return engine.state()["upkeep_ms"]

    assert asyncio.run(scenario()) > 0
