"""The real server tells in its replies what checks say: their states, and rows' p-values."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks_worlds import inverted, stream
from live_server import LIMIT_S, Server, fetch

Serve = Callable[..., AbstractContextManager[Server]]
CHECKS = """
checks:
  - drift: {method: pca, reference: data/digits-train.npz, input: pixels}
  - anomaly: {method: pca, reference: data/digits-train.npz, input: pixels, in_reply: true}
"""
pytestmark = pytest.mark.slow


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def post(running: Server, path: str, document: Any) -> Any:
    body = json.dumps(document).encode()
    return json.loads(fetch(f"{running.url}{path}", body, {"Content-Type": "application/json"}))


def test_replies_tell_states_and_p_values(server: Serve, contract: Path) -> None:
    path = contract / "quickstart.yaml"
    path.write_text(f"{path.read_text()}\n{CHECKS}")
    clean, odd = stream(1, 40), inverted(stream(2, 40))
    with server(path) as running:
        until(lambda: {c["state"] for c in running.get("/checks")["checks"]} == {"ok"})
        told = running.predict(clean.tolist())
        assert told["check_states"] == {"drift": "ok", "anomaly": "ok"}
        assert list(told["p_val"]) == ["anomaly"]
        assert len(told["p_val"]["anomaly"]) == 40
        assert np.median(told["p_val"]["anomaly"]) > 0.2
        assert max(running.predict(odd.tolist())["p_val"]["anomaly"]) <= 0.01
        assert isinstance(running.predict(clean[0].tolist())["p_val"]["anomaly"], float)
        scored = post(running, "/invocations", {"instances": clean[:2].tolist()})
        assert len(scored["scanflow_p_val"]["anomaly"]) == 2
        assert scored["scanflow_check_states"]["anomaly"] == "ok"
        pixels = {"name": "pixels", "datatype": "FP32", "shape": [2, 64]}
        pixels |= {"data": clean[:2].ravel().tolist()}
        said = post(running, "/v2/models/digits/infer", {"inputs": [pixels]})["parameters"]
        assert said["scanflow_anomaly_state"] == "ok"
        assert len(said["scanflow_anomaly_p_val"].split(",")) == 2
        until(lambda: running.predict(odd[:1].tolist())["check_states"]["drift"] == "alarm")
