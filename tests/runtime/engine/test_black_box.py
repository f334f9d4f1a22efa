"""What ran when a worker died is known to the next one, and pauses there."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scanflow_serve.policies.errors import StateError
from scanflow_serve.runtime.engine.black_box import ENTRIES, BlackBox, Crashes
from scanflow_serve.runtime.prepared import save

# A worker that dies by a segfault while two calls run, and one has ended.
WORKER = """
import os, signal, sys
from pathlib import Path
from scanflow_serve.runtime.engine.black_box import BlackBox
box = BlackBox(Path(sys.argv[1]))
fine, first, second = (box.place(name) for name in ("fine", "mlp/x1", "mlp/x1+cnn/ü"))
for place in (fine, first, first, second):
    box.enter(place)
for place in (fine, first):
    box.leave(place)
os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


def die(folder: Path, how: str = "SIGSEGV") -> None:
    command = [sys.executable, "-c", WORKER, str(folder), how]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -getattr(signal, how), done.stderr


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGKILL"])
def test_calls_that_ran_when_a_worker_died_are_known(tmp_path: Path, how: str) -> None:
    die(tmp_path, how)
    assert Crashes(tmp_path).collect() == {"mlp/x1": 1, "mlp/x1+cnn/ü": 1}
    assert Crashes(tmp_path).collect() == {}, "told once"


def test_crashes_add_up_until_they_are_forgiven(tmp_path: Path) -> None:
    die(tmp_path)
    Crashes(tmp_path).collect()
    die(tmp_path)
    assert Crashes(tmp_path).collect()["mlp/x1"] == 2
    Crashes(tmp_path).forgive("mlp/x1")
    die(tmp_path)
    assert Crashes(tmp_path).collect() == {"mlp/x1": 1, "mlp/x1+cnn/ü": 3}


def test_living_workers_box_is_left_alone(tmp_path: Path) -> None:
    box = BlackBox(tmp_path)
    box.enter(box.place("busy"))
    assert Crashes(tmp_path).collect() == {}
    box.close()
    assert list(tmp_path.iterdir()) == []


def test_more_variants_than_there_is_room_for_go_unwatched(tmp_path: Path) -> None:
    box = BlackBox(tmp_path)
    places = [box.place(str(number)) for number in range(ENTRIES + 1)]
    assert places[-1] == -1
    assert len(set(places)) == ENTRIES + 1
    box.enter(-1)
    box.leave(-1)
    box.close()


def test_folder_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="must be writable, got"):
        BlackBox(tmp_path / "file")


# An engine whose only variant crashes the process as it answers; `world.py` of the parent's.
CRASHING = """
import asyncio, os, signal, sys
from pathlib import Path
from scanflow_serve.runtime import prepared
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.requests import Request

import numpy as np

state = Path(sys.argv[1])
engine = Engine(prepared.load(state), state=state)
engine.served("digits").pipeline.run = lambda inputs: os.kill(os.getpid(), signal.SIGSEGV)
pixels = np.zeros((1, 64), np.float32)
name = engine.served("digits").signature.inputs[0].name
asyncio.run(engine.infer(Request("digits", {name: pixels}, 1)))
"""


def crash(state: Path) -> None:
    command = [sys.executable, "-c", CRASHING, str(state)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV, done.stderr


def test_variant_that_crashed_a_worker_pauses_in_the_next_and_is_tried_again(
    world: Any, ask: Any, eventually: Any
) -> None:
    state = world.folder / "state"
    ready = world.prepared()
    save(ready, state)
    crash(state)
    engine = world.engine(ready, state=state)
    assert "large" not in engine.names(), "a standby is loaded first: loading may be what crashes"
    assert world.told("failure") == ["large/onnxruntime-fp32x1"]

    async def scenario() -> list[str]:
        found = [(await ask(engine)).model]
        await engine.start()
        await eventually(lambda: "large" in engine.names())  # after its pause
        assert world.told("recovery") == []
        while (answer := await ask(engine)).model != "large":
            await asyncio.sleep(0.01)
        await eventually(lambda: world.told("recovery"))
        await engine.stop()
        return [*found, answer.model]

    assert asyncio.run(scenario()) == ["medium", "large"]
    crash(state)
    assert Crashes(state).collect() == {"large/onnxruntime-fp32x1": 1}, "it was forgiven"


def test_only_variant_answers_although_it_crashed_a_worker(world: Any, ask: Any) -> None:
    state = world.folder / "state"
    ready = world.prepared(scheduling={"standbys": 0})
    save(ready, state)
    crash(state)
    assert asyncio.run(ask(world.engine(ready, state=state))).model == "large"
