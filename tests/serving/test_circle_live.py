"""The circle on the running quickstart: drift over HTTP, alarm, cause, rule, dashboard, people.

And what plug-ins may not do to it: a third party's checks beside ours, on the real server.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from checks_worlds import stream
from live_server import LIMIT_S, Server, fetch

from scanflow_serve.runtime.checks.storage import CHANGED
from scanflow_serve.serving.quickstart import create

Serve = Callable[..., AbstractContextManager[Server]]
pytestmark = pytest.mark.slow

LARGE, LINEAR = "digits-cnn-large", "digits-linear"
LINE = range(24, 32)  # the fourth line of the 8 x 8 picture
RULE = """
measurement: {budget_s: 20}
checks:
  - drift: {method: pca, reference: data/digits-train.npz, input: pixels}
adapt:
  - when: checks["drift"].state == "alarm"
    use: digits-linear
"""
CHECKPOINT_REQUESTS = 100


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """The quickstart as it is shipped, with one variant a model: fewer to measure."""
    create(tmp_path / "digits")
    path = tmp_path / "digits" / "policy.yaml"
    one = r"\1\n    variants: {backends: [onnxruntime], precisions: [fp32], threads: [1]}"
    path.write_text(re.sub(r"(source: models/\S+)", one, path.read_text()))
    return path


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def send(server: Server, rows: np.ndarray, batch: int = 32) -> str:
    """Send *rows* in requests of *batch*; return the model that answered last."""
    model = ""
    for at in range(0, len(rows), batch):
        body = io.BytesIO()
        np.save(body, rows[at : at + batch].astype(np.float32))
        headers = {"Content-Type": "application/x-npy"}
        reply = json.loads(fetch(f"{server.url}/predict", body.getvalue(), headers))
        model = reply["model"]
    return model


def drift(server: Server) -> Any:
    return server.get("/checks/drift")


def seen(server: Server, rows: int) -> None:
    """Wait until the checks have looked at *rows* rows."""
    until(lambda: drift(server)["rows"] >= rows)


def broken_line(rows: np.ndarray) -> np.ndarray:
    """Return rows as of a sensor that reads its fourth line bright."""
    broken = rows.copy()
    broken[:, LINE] = 16.0
    return broken


def kill(server: Server) -> None:
    for process in [*server.workers(), psutil.Process(server.process.pid)]:
        os.kill(process.pid, signal.SIGKILL)


def kept_rows(state: Path) -> int:
    """Return how many rows the drift check's checkpoint knows of."""
    files = list(state.rglob("drift*.npz"))
    documents = []
    for path in files:
        with np.load(path) as file:
            documents.append(json.loads(file["__document__"].tobytes()))
    assert {path.name for path in files} <= {"drift.npz", f"drift{CHANGED}"}
    return max((document["rows"] for document in documents), default=0)


def events(server: Server, kind: str) -> list[Any]:
    return [each for each in server.get("/events")["events"] if each["kind"] == kind]


def test_drift_alarms_names_its_cause_flips_the_rule_and_re_arms(
    server: Serve, quickstart: Path
) -> None:
    quickstart.write_text(f"{quickstart.read_text()}\n{RULE}")
    with server(quickstart) as running:
        until(lambda: drift(running)["state"] == "ok")
        assert send(running, stream(1, 400)) == LARGE
        seen(running, 400)
        assert drift(running)["state"] in ("ok", "warn")
        assert running.get("/plan")["rules"]["acting"] == []

        send(running, broken_line(stream(2, 128)))
        until(lambda: drift(running)["state"] == "alarm")
        alarm = drift(running)
        assert alarm["evidence"]["detector"] in ("pca", "confidence", "classes", "ks")
        moved = [feature["name"] for feature in alarm["evidence"]["features"]]
        assert {int(re.findall(r"\[(\d+)\]$", name)[0]) for name in moved} <= set(LINE)
        assert alarm["score"] > alarm["threshold"]
        (told,) = until(
            lambda: [e for e in events(running, "check") if e["details"]["state"] == "alarm"]
        )
        assert told["details"]["features"].startswith(moved[0])

        until(lambda: running.get("/plan")["rules"]["acting"] == ["adapt[0]"])
        assert send(running, broken_line(stream(3, 32))) == LINEAR
        assert [each["text"] for each in events(running, "rule")] == [
            'holds: checks["drift"].state == "alarm"'
        ]
        flip = running.get("/plan")["decisions"][-1]
        assert (flip["reason"], flip["why"]) == ("rule", "rules that act: adapt[0]")
        assert (flip["from"].split("/")[0], flip["to"].split("/")[0]) == (LARGE, LINEAR)
        send(running, broken_line(stream(3, 32)))
        until(lambda: running.get("/checks/drift/history")["points"][-1]["state"] == "alarm")
        history = running.get("/checks/drift/history")
        assert max(point["score"] for point in history["points"]) > history["threshold"]

        said = json.dumps({"reason": "the sensor was replaced", "who": "ann"}).encode()
        fetch(f"{running.url}/checks/drift/ack", said, {"Content-Type": "application/json"})
        until(lambda: running.get("/plan")["rules"]["acting"] == [])
        send(running, stream(4, 480))
        until(lambda: drift(running)["state"] == "ok")
        assert send(running, stream(5, 1)) == LARGE
        answered = until(
            lambda: [each for each in running.get("/stats")["points"] if LINEAR in str(each)]
        )
        assert answered

        send(running, broken_line(stream(6, 128)))
        until(lambda: drift(running)["alarms"] == 2)


def test_kill_9_loses_at_most_one_checkpoint_and_no_alarm(server: Serve, quickstart: Path) -> None:
    quickstart.write_text(f"{quickstart.read_text()}\n{RULE}")
    state = quickstart.parent / "state"
    with server(quickstart, state=state) as running:
        until(lambda: drift(running)["state"] == "ok")
        sent = 0
        rows = stream(1, 497)
        while sent < 150 or sent - kept_rows(state) > CHECKPOINT_REQUESTS:
            send(running, rows[sent % 497][None])
            sent += 1
            seen(running, sent)
        kill(running)
    with server(quickstart, state=state) as running:
        until(lambda: drift(running)["phase"] == "armed")
        assert sent - CHECKPOINT_REQUESTS <= drift(running)["rows"] <= sent
        send(running, broken_line(stream(2, 128)))
        until(lambda: drift(running)["state"] == "alarm")
        kill(running)
    with server(quickstart, state=state) as running:
        assert until(lambda: drift(running)["state"] == "alarm")
        until(lambda: running.get("/plan")["rules"]["acting"] == ["adapt[0]"])
        assert send(running, stream(3, 1)) == LINEAR


PLUGINS = """
measurement: {budget_s: 20}
checks:
  - brightness: {reference: data/digits-train.npz}
  - stuck: {reference: data/digits-train.npz, patience: 100}
  - raises: {reference: data/digits-train.npz}
  - leaks: {reference: data/digits-train.npz}
  - shapeless: {reference: data/digits-train.npz}
  - verdictless: {reference: data/digits-train.npz}
  - numberless: {reference: data/digits-train.npz}
  - stateless: {reference: data/digits-train.npz}
  - hangs: {reference: data/digits-train.npz}
"""
FAIL = ("raises", "leaks", "shapeless", "verdictless", "numberless", "stateless", "hangs")


def test_third_partys_checks_are_served_and_those_that_misbehave_end_alone(
    server: Serve, quickstart: Path, plugins: Path
) -> None:
    """What hangs is left behind after 10 s; the server answers meanwhile."""
    quickstart.write_text(f"{quickstart.read_text()}\n{PLUGINS}")
    with server(quickstart, environ={"PYTHONPATH": str(plugins)}) as running:

        def state(name: str) -> Any:
            return running.get(f"/checks/{name}")

        until(lambda: state("brightness")["phase"] == "armed")
        rows = stream(1, 497)
        sent, end = 0, time.monotonic() + LIMIT_S
        while not all(state(name)["disabled"] for name in FAIL):
            for _ in range(20):  # at checkpoints, every hundred requests, leaks are looked for
                send(running, rows[sent % len(rows)][None])
                sent += 1
            assert time.monotonic() < end
        told = {each["source"] for each in events(running, "check") if "disabled" in each["text"]}
        assert told == set(FAIL)
        assert not any(state(name)["disabled"] for name in ("brightness", "stuck"))
        until(lambda: state("brightness")["rows"] == sent)
        assert state("brightness")["state"] in ("ok", "warn")

        send(running, 16 - stream(2, 100))
        until(lambda: state("brightness")["state"] == "alarm")
        flagged = running.get("/checks/brightness/rows")["rows"]
        assert flagged
        assert all(row["p_val"] <= 0.01 for row in flagged)
        assert state("stuck")["state"] == "ok"
        send(running, np.repeat(stream(3, 1), 400, axis=0))
        until(lambda: state("stuck")["state"] == "alarm")
        assert send(running, stream(4, 1)) == LARGE
