"""The real server: inputs out of the ordinary are refused, alarmed about, and held to a file."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from live_server import LIMIT_S, Server

Serve = Callable[..., AbstractContextManager[Server]]

CHECKS = """
calibration: {data: data/digits-train.npz, input: pixels, samples: 200}
checks:
  - integrity: {on_fail: refuse, range: {pixels: [0, 16]}}
serve: {server: uvicorn}
"""

pytestmark = pytest.mark.slow


def test_server_refuses_bad_rows_keeps_its_schema_and_says_so(
    server: Serve, contract: Path
) -> None:
    policy = contract / "quickstart.yaml"
    policy.write_text(f"{policy.read_text()}\n{CHECKS}")
    with np.load(contract / "data" / "digits-test.npz") as file:
        rows = file["pixels"].tolist()
    with server(policy) as running:
        kept = running.state / "checks" / "integrity.schema.yaml"
        assert "inferred from data/digits-train.npz (1000 rows)" in kept.read_text()
        clean = running.predict(rows[:20])
        assert clean["checks"] == [[]] * 20
        rows[20][5] = "n/a"
        with pytest.raises(urllib.error.HTTPError, match="422") as refused:
            running.predict(rows[20:22])
        detail = json.loads(refused.value.read())["detail"]
        assert detail.startswith("inputs[0][5] must be a number, got 'n/a'. Rule 'format'")
        rows[20][5] = "7"  # a dtype that never was: one request is enough for the alarm
        with pytest.raises(urllib.error.HTTPError, match="422"):
            running.predict(rows[20])
        until = time.monotonic() + LIMIT_S
        while running.get("/checks/integrity")["state"] != "alarm":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert "dtype" in running.get("/checks/integrity")["why"]
