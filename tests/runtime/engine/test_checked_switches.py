"""Switches of the real engine, watched by the real checks: what answers is no drift."""

from __future__ import annotations

import asyncio
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.batches import batches
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.events import Event
from scanflow_serve.serving.checks import subject_of

CHECKS = [
    {"drift": {"method": "pca", "reference": "data/digits-train.npz", "input": "pixels"}},
    {"balance": {"reference": "data/digits-validation.npz", "target": "label"}},
    {"anomaly": {"method": "confidence"}},
]
SWITCHES, ROWS = 100, 4


def test_hundred_forced_switches_on_a_clean_stream_raise_no_alarm(
    world: Any, ask: Any, pixels: Any, tmp_path: Path
) -> None:
    """Design point 15: each answer is ranked among those of the variant that gave it."""
    engine = world.engine(world.prepared(checks=CHECKS))
    events: list[Event] = []
    rows = pixels[np.random.default_rng(5).permutation(len(pixels))]

    async def scenario() -> list[str]:
        await engine._loading.load_rest()
        host = Host(subject_of(engine), tmp_path / "state", events.append)
        host.arm()
        answered = []
        models = cycle(("small", "large", "medium"))
        for switch in range(SWITCHES):
            engine.pin(f"{next(models)}/onnxruntime-fp32x1")
            part = rows[switch * ROWS : switch * ROWS + ROWS]
            reply = await ask(engine, rows=ROWS, pixels=part)
            answered.append(reply.variant)
            host.tap.put(
                reply.prediction_ids,
                {"pixels": part},
                reply.outputs,
                reply.output,
                reply.kind,
                reply.variant,
            )
            host.process(batches(host.tap.drain(0)), 1)
        assert {watch.life.phase for watch in host.watches} == {"armed"}
        assert all(watch.rows == SWITCHES * ROWS for watch in host.watches)
        assert not any(watch.life.alarms for watch in host.watches)
        return answered

    answered = asyncio.run(scenario())
    assert sum(a != b for a, b in pairwise(answered)) == SWITCHES - 1
    assert not [event for event in events if event.details.get("state") == "alarm"]
