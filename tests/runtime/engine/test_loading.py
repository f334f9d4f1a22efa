"""What is loaded, evicted and unloaded, while requests go on."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from scanflow_serve.policies.errors import BackendError, RequestError
from scanflow_serve.runtime.requests import Request


def test_choice_answers_before_the_standbys_are_loaded(world: Any) -> None:
    engine = world.engine()
    assert engine.names() == ("digits", "classify", "large")
    assert [world.script(m).opened for m in ("large", "medium", "small")] == [1, 0, 0]


def test_standbys_are_loaded_behind_the_requests_and_answer_under_their_names(
    world: Any, ask: Any, eventually: Any
) -> None:
    settled = threading.Event()
    engine = world.engine(settled=settled.set)

    async def scenario() -> str:
        await engine.start()
        await eventually(settled.is_set)
        answer = await ask(engine, "small")
        await engine.stop()
        return str(answer.variant)

    assert asyncio.run(scenario()) == "small/onnxruntime-fp32x1"
    assert set(engine.names()) == {"digits", "classify", "large", "medium", "small"}
    # Once each, however many lanes they answer in.
    assert [world.script(m).opened for m in ("large", "medium", "small")] == [1, 1, 1]


def test_standby_that_can_not_be_loaded_is_told_and_missed_by_nobody(world: Any, ask: Any) -> None:
    engine = world.engine()
    open_one = engine._fleet._residents._open

    def refuse(variant: Any, artifact: Any) -> Any:
        if variant.model == "medium":
            raise BackendError("no driver")
        return open_one(variant, artifact)

    engine._fleet._residents._open = refuse

    async def scenario() -> Any:
        await engine._loading.load_rest()
        return await ask(engine)

    assert asyncio.run(scenario()).model == "large"
    assert "medium" not in engine.names()
    assert world.told("failure") == ["medium/onnxruntime-fp32x1"]


def test_loaded_model_answers_and_joins_the_policys_run(world: Any, ask: Any) -> None:
    engine = world.engine(world.prepared(scheduling={"standbys": 0}))

    async def scenario() -> Any:
        with pytest.raises(RequestError, match="'small' is not loaded on this host"):
            engine.served("small")
        await engine.load("small")
        assert (await ask(engine, "small")).model == "small"
        engine.pin("small")
        return await ask(engine, "digits")

    assert asyncio.run(scenario()).model == "small"
    assert world.told("load") == ["small"]


def test_unloaded_model_answers_no_more_and_is_closed(
    world: Any, ask: Any, eventually: Any
) -> None:
    engine = world.engine()

    async def scenario() -> Any:
        await engine._loading.load_rest()
        await engine.unload("large")
        await eventually(lambda: world.script("large").closed == 1)
        with pytest.raises(RequestError, match="'large' is not loaded on this host"):
            await engine.infer(Request("large", {}, 1))
        return await ask(engine, "digits")

    assert asyncio.run(scenario()).model == "medium"
    assert world.script("medium").closed == 0


def test_session_is_closed_only_when_its_last_call_has_ended(
    world: Any, ask: Any, longer: Any, eventually: Any
) -> None:
    longer("large", 5.0)
    engine = world.engine()
    script = world.script("large")

    async def scenario() -> Any:
        await engine._loading.load_rest()
        script.gate = threading.Event()
        script.entered.clear()
        running = asyncio.create_task(ask(engine, "large"))
        await eventually(script.entered.is_set)
        await engine.unload("large")
        assert "large" not in engine.names()
        assert script.closed == 0
        script.gate.set()
        answer = await running
        await eventually(lambda: script.closed == 1)
        return answer

    assert asyncio.run(scenario()).model == "large"


def test_last_model_of_the_policys_run_stays(world: Any) -> None:
    engine = world.engine()
    with pytest.raises(RequestError, match="must answer 'digits', got nothing") as refusal:
        asyncio.run(engine.unload("large"))
    assert refusal.value.status == 409


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("nobody", 404, "'nobody' is unknown. The policy has: large, medium, small"),
        ("digits", 409, "'digits' is the policy's run"),
    ],
)
def test_only_models_are_unloaded(world: Any, name: str, status: int, text: str) -> None:
    engine = world.engine()
    with pytest.raises(RequestError, match=text) as refusal:
        asyncio.run(engine.unload(name))
    assert refusal.value.status == status


def test_unloaded_choice_comes_back_when_it_is_loaded_again(world: Any, ask: Any) -> None:
    engine = world.engine()

    async def scenario() -> list[str]:
        await engine._loading.load_rest()
        found = [(await ask(engine)).model]
        await engine.unload("large")
        found.append((await ask(engine)).model)
        await engine.load("large")
        found.append((await ask(engine)).model)
        return found

    assert asyncio.run(scenario()) == ["large", "medium", "large"]


def test_least_recently_used_standby_makes_room(world: Any, ask: Any, eventually: Any) -> None:
    world.host = replace(world.host, memory_mb=400.0)  # half of it: two models of 100 MiB
    engine = world.engine()

    async def scenario() -> None:
        await engine._loading.load_rest()
        assert set(engine.names()) == {"digits", "classify", "large", "medium"}
        await engine.load("small")
        await eventually(lambda: world.script("medium").closed == 1)

    asyncio.run(scenario())
    assert set(engine.names()) == {"digits", "classify", "large", "small"}


def test_model_that_does_not_fit_is_refused_with_the_figures(world: Any) -> None:
    world.host = replace(world.host, memory_mb=400.0)
    engine = world.engine(world.prepared(scheduling={"standbys": 0}))

    async def scenario() -> None:
        await engine.load("medium")
        await engine.load("small")

    text = r"at most 200 MiB together, got 300 MiB with it"
    with pytest.raises(RequestError, match=text) as refusal:
        asyncio.run(scenario())
    assert refusal.value.status == 503
    assert "small" not in engine.names()


def test_loads_unloads_and_pins_under_load_cost_no_request(
    world: Any, ask: Any, pixels: Any
) -> None:
    engine = world.engine()
    going = True

    async def client(number: int) -> int:
        answered = 0
        while going:
            answer = await ask(engine, at=(number * 31 + answered) % len(pixels))
            assert answer.outputs["logits"].shape == (1, 10)
            answered += 1
            await asyncio.sleep(0)
        return answered

    async def scenario() -> int:
        nonlocal going
        await engine.start()
        await engine._loading.load_rest()
        clients = [asyncio.create_task(client(number)) for number in range(8)]
        for turn in range(30):
            model = ("small", "medium", "large")[turn % 3]
            engine.pin(model)
            await asyncio.sleep(0.005)
            engine.pin(None)
            await engine.unload(model)
            await asyncio.sleep(0.005)
            await engine.load(model)
        going = False
        answered = await asyncio.gather(*clients)
        await engine.stop()
        assert min(answered) > 0
        return sum(answered)

    total = asyncio.run(scenario())
    calls = sum(sum(script.rows) for script in world.scripts.values())
    assert calls >= total
    assert (engine.counters().waiting, engine.counters().running) == (0, 0)
