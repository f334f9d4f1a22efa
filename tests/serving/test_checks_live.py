"""The real server: drifted traffic over HTTP raises an alarm that names its cause, and re-arms."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from checks_worlds import inverted, stream
from live_server import LIMIT_S, Server, fetch

Serve = Callable[..., AbstractContextManager[Server]]

CHECKS = """
checks:
  - drift: {method: pca, reference: data/digits-train.npz, input: pixels}
  - balance: {reference: data/digits-validation.npz, target: label}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def policy(contract: Path) -> Path:
    path = contract / "quickstart.yaml"
    path.write_text(f"{path.read_text()}\n{CHECKS}")
    return path


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def states(server: Server) -> dict[str, str]:
    return {each["name"]: each["state"] for each in server.get("/checks")["checks"]}


def send(server: Server, rows: np.ndarray) -> None:
    for at in range(0, len(rows), 10):
        server.predict(rows[at : at + 10].tolist())


def test_drifted_stream_alarms_names_its_cause_and_acknowledged_re_arms(
    server: Serve, policy: Path
) -> None:
    with server(policy) as running:
        until(lambda: set(states(running).values()) == {"ok"})
        send(running, stream(1, 200))
        send(running, inverted(stream(2, 100)))
        until(lambda: states(running)["drift"] == "alarm")
        evidence = running.get("/checks/drift")["evidence"]
        assert evidence["detector"] in ("pca", "confidence", "classes", "ks")
        assert evidence["features"]
        said = json.dumps({"reason": "the lamp was replaced", "who": "ann"}).encode()
        fetch(f"{running.url}/checks/drift/ack", said, {"Content-Type": "application/json"})
        assert states(running)["drift"] == "acknowledged"
        send(running, inverted(stream(3, 100)))
        until(lambda: states(running)["drift"] == "alarm")
        assert running.get("/checks/drift")["alarms"] == 2


def test_alarm_outlives_kill_9(server: Serve, policy: Path) -> None:
    with server(policy) as running:
        until(lambda: set(states(running).values()) == {"ok"})
        send(running, inverted(stream(2, 200)))
        until(lambda: states(running)["drift"] == "alarm")
        for worker in [*running.workers(), psutil.Process(running.process.pid)]:
            os.kill(worker.pid, signal.SIGKILL)
    with server(policy, state=policy.parent / "state") as running:
        until(lambda: states(running)["drift"] == "alarm")
        assert running.get("/checks/drift")["evidence"]["features"]
