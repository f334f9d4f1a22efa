"""Pins before rules before the objective; what rules ask for is done and told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from scanflow_serve.policies.errors import RequestError


def test_pinned_variant_answers_alone_until_it_is_lifted(world: Any, ask: Any) -> None:
    engine = world.engine()

    async def scenario() -> list[str]:
        await engine._loading.load_rest()
        found = []
        for what in ("small/onnxruntime-fp32x1", "classify:medium/onnxruntime-fp32x1", None):
            engine.pin(what)
            found.append((await ask(engine, prefer="accuracy")).model)
        return found

    assert asyncio.run(scenario()) == ["small", "medium", "large"]
    assert [event.text.partition(" to ")[0] for event in world.events if event.kind == "pin"] == [
        "pinned",
        "pinned",
        "no longer pinned",
    ]


def test_pin_on_what_is_not_loaded_is_a_404_that_says_what_is(world: Any) -> None:
    engine = world.engine()
    with pytest.raises(RequestError, match=r"Loaded here: large/onnxruntime-fp32x1") as refusal:
        engine.pin("small")
    assert refusal.value.status == 404
    assert engine.state()["pinned"] is None


def test_pin_is_lifted_with_the_model_that_it_names(world: Any) -> None:
    engine = world.engine()

    async def scenario() -> None:
        await engine._loading.load_rest()
        engine.pin("small")
        await engine.unload("small")

    asyncio.run(scenario())
    assert engine.state()["pinned"] is None


def test_request_prefers_for_itself(world: Any, ask: Any) -> None:
    engine = world.engine()

    async def scenario() -> list[str]:
        await engine._loading.load_rest()
        return [(await ask(engine, prefer=goal)).model for goal in ("latency", None, "accuracy")]

    assert asyncio.run(scenario()) == ["small", "large", "large"]


def test_rule_binds_all_but_requests_that_ask_and_tells_so(
    world: Any, ask: Any, eventually: Any
) -> None:
    rules = [{"when": "model.variant != ''", "use": "medium", "alert": {"log": "info"}}]
    engine = world.engine(world.prepared(adapt=rules))

    async def scenario() -> list[str]:
        await engine.start()
        await eventually(lambda: world.told("rule"))
        await eventually(lambda: "medium" in engine.names() and "small" in engine.names())
        found = [(await ask(engine)).model, (await ask(engine, prefer="latency")).model]
        engine.pin("small")
        found.append((await ask(engine)).model)
        await engine.stop()
        return found

    assert asyncio.run(scenario()) == ["medium", "small", "small"]
    assert world.told("alert") == ["adapt[0]"]
    assert engine.state()["rules"] == {"acting": ["adapt[0]"], "prefer": None, "use": "medium"}


def test_rule_that_prefers_latency_ends_when_its_condition_does(
    world: Any, ask: Any, eventually: Any
) -> None:
    rules = [{"when": "host.throttled", "prefer": "latency"}]
    zone = world.folder / "sys" / "class" / "thermal" / "cooling_device0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("Processor\n")
    (zone / "cur_state").write_text("3\n")
    engine = world.engine(world.prepared(adapt=rules), root=str(world.folder))

    async def scenario() -> list[str]:
        await engine.start()
        await engine._loading.load_rest()
        await eventually(lambda: engine.state()["rules"]["acting"])
        found = [(await ask(engine)).model]
        (zone / "cur_state").write_text("0\n")
        await eventually(lambda: not engine.state()["rules"]["acting"])
        found.append((await ask(engine)).model)
        await engine.stop()
        return found

    assert asyncio.run(scenario()) == ["small", "large"]
    assert world.told("rule") == ["adapt[0]", "adapt[0]"]


def test_variant_of_a_rule_is_loaded_although_it_is_no_standby(world: Any, eventually: Any) -> None:
    rules = [{"when": "traffic.rate_rps > 1e9", "use": "small/onnxruntime-fp32"}]
    engine = world.engine(world.prepared(adapt=rules, scheduling={"standbys": 0}))

    async def scenario() -> None:
        await engine.start()
        await eventually(lambda: "small" in engine.names())
        await engine.stop()

    asyncio.run(scenario())


def test_rule_over_a_check_that_nothing_watches_does_not_act(world: Any) -> None:
    rules = [{"when": 'checks["drift"].state == "alarm"', "retrain": "classify"}]
    checks = [{"drift": {"method": "autoencoder", "reference": "data/digits-train.npz"}}]
    engine = world.engine(world.prepared(adapt=rules, checks=checks))

    async def scenario() -> None:
        for seconds in range(5):
            await engine._control.tick(time.perf_counter() + seconds)

    asyncio.run(scenario())
    assert world.told("rule") == []
