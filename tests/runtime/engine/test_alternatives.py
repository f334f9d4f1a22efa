"""Alternatives of `any` answer for one another where their inputs and outputs correspond."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from scanflow_serve.policies.errors import RequestError

ANY = {"targets": [{"run": {"any": ["B1", "B2"]}}]}


def workflows(first: list[Any], second: list[Any]) -> dict[str, Any]:
    return ANY | {"workflows": {"B1": {"steps": first}, "B2": {"steps": second}}}


async def loaded(engine: Any) -> None:
    await engine._loading.load_rest()


def test_alternatives_answer_under_the_names_of_the_chosen(world: Any, ask: Any) -> None:
    (world.folder / "named.py").write_text("def rename(logits):\n    return {'scores': logits}\n")
    engine = world.engine(
        world.prepared(
            **workflows([{"model": "small"}, {"python": "named:rename"}], [{"model": "large"}])
        )
    )

    async def scenario() -> tuple[Any, Any, Any]:
        await loaded(engine)
        chosen = await ask(engine)
        engine.pin("small")
        return chosen, await ask(engine), await ask(engine, "B1")

    chosen, other, own = asyncio.run(scenario())
    assert (chosen.workflow, other.workflow, own.workflow) == ("B2", "B1", "B1")
    assert list(chosen.outputs) == list(other.outputs) == ["logits"]
    np.testing.assert_array_equal(other.outputs["logits"], own.outputs["scores"])


def test_logits_become_probabilities_where_an_alternative_gives_these(world: Any, ask: Any) -> None:
    world.kinds["small"] = "probabilities"
    engine = world.engine(
        world.prepared(
            **workflows([{"model": "small"}, {"python": "steps:softmax"}], [{"model": "large"}])
        )
    )

    async def scenario() -> tuple[Any, Any, Any]:
        await loaded(engine)
        chosen = await ask(engine)
        engine.pin("small")
        return chosen, await ask(engine), await ask(engine, "B2")

    chosen, other, own = asyncio.run(scenario())
    assert (chosen.kind, other.kind, own.kind) == ("probabilities", "probabilities", "logits")
    for answer in (chosen, other):
        np.testing.assert_allclose(answer.outputs["logits"].sum(), 1.0, rtol=1e-5)


def test_alternative_that_does_not_correspond_is_noted_and_left_out(world: Any, ask: Any) -> None:
    (world.folder / "odd.py").write_text("def three(logits):\n    return logits[:, :3]\n")
    engine = world.engine(
        world.prepared(
            **workflows([{"model": "small"}, {"python": "odd:three"}], [{"model": "large"}])
        )
    )

    async def scenario() -> Any:
        await loaded(engine)
        return await ask(engine, prefer="latency"), await ask(engine, "B1")

    answer, own = asyncio.run(scenario())
    with pytest.raises(RequestError, match="must answer 'digits', got nothing"):
        asyncio.run(engine.unload("large"))
    assert answer.workflow == "B2"
    assert own.outputs["three"].shape == (1, 3)
    (note,) = engine.plan.notes
    assert "to answer in place of the chosen workflow it must have outputs" in note


def test_committee_stands_by_as_one_option(world: Any, ask: Any) -> None:
    branches = {"parallel": [{"model": "small"}, {"model": "medium"}], "combine": "mean"}
    engine = world.engine(world.prepared(**workflows([branches], [{"model": "large"}])))

    async def scenario() -> list[Any]:
        await loaded(engine)
        engine.pin("medium")
        return await asyncio.gather(*(ask(engine, at=at) for at in range(9)))

    for answer in asyncio.run(scenario()):
        assert answer.variant == "small/onnxruntime-fp32x1+medium/onnxruntime-fp32x1"
        assert answer.outputs["logits"].shape == (1, 10)
