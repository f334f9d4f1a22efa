"""Requests over a live event loop: straight, batched, on threads, cancelled, failed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from scanflow_serve.policies.errors import BackendError, RequestError


def test_request_with_nothing_before_it_runs_in_its_own_coroutine(world: Any, ask: Any) -> None:
    engine = world.engine()
    answer = asyncio.run(ask(engine))
    assert answer.variant == "large/onnxruntime-fp32x1"
    assert (answer.batch_rows, answer.late, answer.accuracy) == (1, False, 0.99)
    assert world.script("large").threads[-1] == threading.main_thread().name


def test_requests_of_one_turn_of_the_loop_share_calls(world: Any, ask: Any, pixels: Any) -> None:
    engine = world.engine()

    async def scenario() -> list[Any]:
        world.script("large").rows.clear()
        return await asyncio.gather(*(ask(engine, at=at) for at in range(12)))

    answers = asyncio.run(scenario())
    rows = world.script("large").rows
    assert rows[0] == 1  # the first went straight
    assert sum(rows) == 12
    assert len(rows) <= 3  # the others, by as many calls as there are cores
    whole = asyncio.run(ask(engine, rows=12)).outputs["logits"]
    for at, answer in enumerate(answers):
        np.testing.assert_allclose(
            answer.outputs["logits"], whole[at : at + 1], rtol=1e-4, atol=1e-4
        )
    assert len({answer.prediction_ids[0] for answer in answers}) == 12


def test_call_over_a_millisecond_runs_on_a_worker_thread(world: Any, ask: Any, longer: Any) -> None:
    longer("large", 5.0)
    answer = asyncio.run(ask(world.engine()))
    assert answer.variant.startswith("large/")
    assert world.script("large").threads[-1].startswith("inference")


def test_request_with_more_rows_than_a_batch_runs_in_parts(world: Any, ask: Any) -> None:
    engine = world.engine()
    world.script("large").rows.clear()
    answer = asyncio.run(ask(engine, rows=70))
    assert world.script("large").rows == [32, 32, 6]
    assert answer.outputs["logits"].shape == (70, 10)


def test_client_that_hangs_up_while_queued_costs_no_inference(
    world: Any, ask: Any, longer: Any, eventually: Any
) -> None:
    longer("large", 5.0)
    engine = world.engine()
    script = world.script("large")
    script.gate = threading.Event()

    async def scenario() -> None:
        running = [asyncio.create_task(ask(engine, at=at, rows=32)) for at in range(2)]
        await eventually(lambda: engine.counters().running == 2)
        gone = asyncio.create_task(ask(engine, at=2))
        await eventually(lambda: engine.counters().queued == 1)
        gone.cancel()
        await asyncio.wait([gone])
        assert engine.counters().queued == 0
        script.gate.set()
        await asyncio.gather(*running)

    script.rows.clear()
    asyncio.run(scenario())
    assert script.rows == [32, 32]
    assert engine.counters().waiting == 0


def test_variant_that_raises_is_replaced_and_its_request_answered(world: Any, ask: Any) -> None:
    engine = world.engine()
    world.script("large").fails = BackendError("out of luck")

    async def scenario() -> list[Any]:
        await engine.start()
        await engine._loading.load_rest()
        answers = [await ask(engine, at=at) for at in range(3)]
        answers += await asyncio.gather(*(ask(engine, at=at) for at in range(20)))
        await engine.stop()
        return answers

    answers = asyncio.run(scenario())
    assert {answer.variant.partition("/")[0] for answer in answers} <= {"medium", "small"}
    assert len({answer.prediction_ids[0] for answer in answers}) == 23
    state = engine.state()
    (lane,) = [lane for lane in state["lanes"] if lane["lane"] == "digits"]
    large = next(o for o in lane["options"] if o["variant"].startswith("large/"))
    assert large["in_rotation"] is False
    assert "out of luck" in next(d["why"] for d in state["decisions"] if d["reason"] == "failure")


def test_variant_that_gives_nan_is_replaced(world: Any, ask: Any) -> None:
    engine = world.engine()
    world.script("large").spoils = True

    async def scenario() -> Any:
        await engine._loading.load_rest()
        return await ask(engine)

    answer = asyncio.run(scenario())
    assert not answer.variant.startswith("large/")
    assert np.isfinite(answer.outputs["logits"]).all()


def test_nan_that_every_option_gives_is_the_answer(world: Any, ask: Any) -> None:
    engine = world.engine()
    for model in ("large", "medium", "small"):
        world.script(model).spoils = True

    async def scenario() -> list[Any]:
        await engine._loading.load_rest()
        return await asyncio.gather(*(ask(engine, at=at) for at in range(5)))

    for answer in asyncio.run(scenario()):
        assert np.isnan(answer.outputs["logits"]).all()


def test_nan_that_came_in_may_go_out(world: Any, ask: Any, pixels: Any) -> None:
    engine = world.engine()
    spoiled = np.full_like(pixels[:1], np.nan)

    async def scenario() -> Any:
        await engine._loading.load_rest()
        return await ask(engine, pixels=spoiled)

    answer = asyncio.run(scenario())
    assert answer.variant.startswith("large/")
    assert np.isnan(answer.outputs["logits"]).any()


def test_error_of_the_only_option_reaches_its_client_alone(world: Any, ask: Any) -> None:
    engine = world.engine()
    world.script("large").fails = BackendError("out of luck")
    with pytest.raises(BackendError, match="out of luck"):
        asyncio.run(ask(engine))
    world.script("large").fails = None
    assert asyncio.run(ask(engine)).variant.startswith("large/")
    assert (engine.counters().waiting, engine.counters().running) == (0, 0)


def test_step_that_exits_does_not_end_the_server(world: Any, ask: Any) -> None:
    engine = world.engine()
    world.script("large").fails = SystemExit(3)
    with pytest.raises(Exception, match=r"must return, got exit\(3\)"):
        asyncio.run(ask(engine))


def test_request_to_a_closed_engine_is_told_so(world: Any, ask: Any, longer: Any) -> None:
    longer("large", 5.0)
    engine = world.engine()
    engine.close()
    with pytest.raises(RequestError, match="The server is stopping") as refusal:
        asyncio.run(ask(engine))
    assert refusal.value.status == 503
    assert (engine.counters().running, engine.counters().waiting) == (0, 0)


def test_full_queue_is_refused_and_all_others_answered(
    world: Any, ask: Any, longer: Any, eventually: Any
) -> None:
    longer("large", 5.0)
    engine = world.engine(world.prepared(scheduling={"max_queue": 3}))
    script = world.script("large")
    script.gate = threading.Event()

    async def scenario() -> list[Any]:
        tasks = [asyncio.create_task(ask(engine, at=at, rows=32)) for at in range(2)]
        await eventually(lambda: engine.counters().running == 2)
        tasks += [asyncio.create_task(ask(engine, at=at)) for at in range(3)]
        await eventually(lambda: engine.counters().queued == 3)
        with pytest.raises(RequestError, match=r"max_queue is 3") as refusal:
            await ask(engine)
        assert refusal.value.status == 503
        script.gate.set()
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(scenario())) == 5


def test_thousand_requests_of_all_names_are_answered_once_each(
    world: Any, ask: Any, pixels: Any
) -> None:
    engine = world.engine()

    async def scenario() -> list[tuple[int, Any]]:
        await engine.start()
        await engine._loading.load_rest()

        async def client(number: int) -> list[tuple[int, Any]]:
            found = []
            for turn in range(50):
                name = ("digits", "classify", "large", "medium")[(number + turn) % 4]
                at = (number * 50 + turn) % len(pixels)
                found.append((at, await ask(engine, name, at=at, client=str(number))))
            return found

        answers = await asyncio.gather(*(client(number) for number in range(20)))
        await engine.stop()
        return [pair for each in answers for pair in each]

    answers = asyncio.run(scenario())
    assert len({answer.prediction_ids[0] for _, answer in answers}) == 1000
    counters = engine.counters()
    assert (counters.waiting, counters.running, counters.queued) == (0, 0, 0)
    reference = {
        name: asyncio.run(ask(engine, name, rows=len(pixels))).outputs["logits"]
        for name in ("large", "medium")
    }
    for at, answer in answers:
        expected = reference[answer.model][at : at + 1]
        np.testing.assert_allclose(answer.outputs["logits"], expected, rtol=1e-3, atol=1e-3)


def test_request_without_time_is_turned_away_only_while_others_wait(
    world: Any, ask: Any, longer: Any, eventually: Any
) -> None:
    longer("large", 5.0)
    engine = world.engine()
    served = engine.served("digits")
    script = world.script("large")

    async def scenario() -> None:
        engine.turn_away(served, "a", 0.001, None)
        script.gate = threading.Event()
        asked = [asyncio.create_task(ask(engine, at=at, rows=32)) for at in range(3)]
        await eventually(lambda: engine.queued == 1)
        engine.turn_away(served, "a", None, "latency")
        with pytest.raises(RequestError, match="The deadline can't be met") as at:
            engine.turn_away(served, "a", 0.001, None)
        assert at.value.status == 504
        script.gate.set()
        await asyncio.gather(*asked)

    asyncio.run(scenario())
