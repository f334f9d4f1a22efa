"""A load with deadlines is held while all changes that can: every request is answered once."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from live_server import Server, fetch, is_ready, wait_until
from onnx import helper, numpy_helper
from serving_load import Load

pytestmark = pytest.mark.slow
Serve = Callable[..., AbstractContextManager[Server]]

FRAGILE, STEADY = "digits-fragile", "digits-mlp"
CLIENTS = 4
DEADLINE_MS = 500.0
NAN, RAISE = -2.0, 5000.0  # what a row's first or second pixel says to the fragile model
POLICY = """
apiVersion: scanflow/v1
name: digits
models:
  digits-mlp: {source: models/digits-mlp.onnx, variants: {backends: [onnxruntime], threads: [1]}}
  digits-fragile:
    source: models/digits-fragile.onnx
    variants: {backends: [onnxruntime], threads: [1]}
validation: {data: data/digits-validation.npz, input: pixels, target: label}
workflows:
  classify: {steps: [{model: [digits-mlp, digits-fragile]}]}
targets: [{run: classify}]
objective: {maximize: accuracy, subject_to: {max_latency_p95_ms: 200}}
measurement: {budget_s: 20}
"""


def fragile(source: Path, path: Path) -> None:
    """Write the model *source*, which then gives NaN or raises for rows that say so."""
    model = onnx.load(source)
    pixels, logits = model.graph.input[0].name, model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["sound" if name == logits else name for name in node.output]
    constants = {
        "first": np.array([0]),
        "second": np.array([1]),
        "one": np.array([1], np.float32),
        "zero": np.array([0], np.float32),
        "thousand": np.array([1000], np.float32),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    model.graph.node.extend(
        helper.make_node(kind, takes, [gives], **attributes)
        for kind, takes, gives, attributes in (
            ("Gather", [pixels, "first"], "pixel0", {"axis": 1}),
            ("Add", ["pixel0", "one"], "shifted", {}),
            ("Log", ["shifted"], "log", {}),
            ("Mul", ["log", "zero"], "nothing", {}),
            ("Gather", [pixels, "second"], "pixel1", {"axis": 1}),
            ("Div", ["pixel1", "thousand"], "scaled", {}),
            ("Cast", ["scaled"], "index", {"to": onnx.TensorProto.INT64}),
            ("Gather", ["zero", "index"], "looked_up", {"axis": 0}),  # out of bounds: it raises
            ("Add", ["sound", "nothing"], "almost", {}),
            ("Add", ["almost", "looked_up"], logits, {}),
        )
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


def odd_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows for which the fragile model gives NaN, and others for which it raises."""
    odd = rows[:8].astype(np.float64)
    odd[::2, 0] = NAN
    odd[1::2, 1] = RAISE
    return odd


@pytest.fixture
def rows(contract: Path) -> np.ndarray:
    with np.load(contract / "data" / "digits-test.npz") as data:
        return np.array(data["pixels"])


@pytest.fixture
def policy(contract: Path, mode: str) -> Path:
    fragile(contract / "models" / "digits-cnn.onnx", contract / "models" / "digits-fragile.onnx")
    path = contract / "policy.yaml"
    path.write_text(f"{POLICY}serve: {{server: {mode}}}\n")
    return path


class Operator:
    """Who changes what runs, and sees what is told of it."""

    def __init__(self, live: Server) -> None:
        self.live = live

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"{self.live.url}{path}",
            data=None if body is None else body.encode(),
            method=method,
            headers={"Content-Type": "application/yaml" if path == "/policy" else "text/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=180) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def do(self, method: str, path: str, body: str | None = None) -> Any:
        status, document = self.ask(method, path, body)
        assert status == 200, document
        return document

    def current(self) -> str:
        """Return the variant that answers the policy's name at present."""
        lanes = {lane["lane"]: lane for lane in self.live.get("/plan")["lanes"]}
        return str(lanes["digits"]["current"])

    def options(self) -> dict[str, bool]:
        """Return what may answer the policy's name, and whether it is in rotation."""
        lanes = {lane["lane"]: lane for lane in self.live.get("/plan")["lanes"]}
        return {each["variant"]: each["in_rotation"] for each in lanes["digits"]["options"]}

    def settled(self) -> None:
        """Wait until both models are loaded and in rotation."""

        def both() -> bool:
            models = {name.partition("/")[0] for name, well in self.options().items() if well}
            return models == {FRAGILE, STEADY}

        wait_until(both, self.live.process, self.live.log)

    @contextmanager
    def listening(self) -> Iterator[list[dict[str, Any]]]:
        """Follow the events while the block runs."""
        request = urllib.request.Request(
            f"{self.live.url}/events", headers={"Accept": "text/event-stream"}
        )
        told: list[dict[str, Any]] = []
        stream = urllib.request.urlopen(request, timeout=180)

        def read() -> None:
            for line in stream:
                if line.startswith(b"data: "):
                    told.append(json.loads(line.removeprefix(b"data: ")))
                if ended.is_set():
                    break

        ended = threading.Event()
        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield told
        finally:
            ended.set()
            self.do("POST", "/plan/pin", '{"variant": null}')  # an event, so that it reads on
            reader.join()
            stream.close()


def load_and_unload(operator: Operator, load: Load) -> None:
    for model in (STEADY, FRAGILE):
        operator.do("POST", f"/v2/repository/models/{model}/unload")
        assert all(model not in variant for variant in operator.options())
        load.more_answers(20)
        other = FRAGILE if model == STEADY else STEADY
        status, told = operator.ask("POST", f"/v2/repository/models/{other}/unload")
        assert (status, "Load another model of its run first" in told["error"]) == (409, True)
        operator.do("POST", f"/v2/repository/models/{model}/load")
        load.more_answers(20)
    operator.settled()


def pin(operator: Operator, load: Load) -> None:
    for model in (STEADY, FRAGILE, STEADY):
        operator.do("POST", "/plan/pin", json.dumps({"variant": model}))
        assert operator.current().startswith(model)
        before = load.ledger.variants.copy()
        load.more_answers(40)
        since = load.ledger.variants - before
        # What began before the pin may end after it; the load has a request a client.
        assert sum(n for variant, n in since.items() if model not in variant) <= CLIENTS
    operator.do("POST", "/plan/pin", '{"variant": null}')


def fail(operator: Operator, load: Load, rows: np.ndarray) -> None:
    """Let the better variant give NaN and raise; the other answers, and it comes back after."""
    with load.mixed_with(odd_rows(rows)):
        wait_until(
            lambda: any(FRAGILE in v and not well for v, well in operator.options().items()),
            operator.live.process,
            operator.live.log,
        )
        load.more_answers(100)
    operator.settled()


def reload(operator: Operator, load: Load, policy: Path) -> str:
    """Offer policies that won't do, and some that will; return the one that serves at last."""
    text = policy.read_text()
    step = "digits-fragile]}, {python: steps:clip_pixels}]}"
    for status, bad in (
        (422, text.replace("maximize: accuracy", "maximise: accuracy")),
        (422, text.replace("max_latency_p95_ms: 200", "max_latency_p95_ms: 0.000001")),
        (422, text.replace("serve: {", "serve: {port: 1, ")),
        (
            403,
            text.replace("digits-fragile]}]}", step),
        ),
    ):
        assert operator.ask("PUT", "/policy", bad)[0] == status
        assert operator.live.get("/policy")["text"] == text
    load.more_answers(20)
    for number in range(3):
        text = f"{policy.read_text()}description: number {number}\n"
        before = load.ledger.answered
        told = operator.do("PUT", "/policy", text)
        assert load.ledger.answered > before
        assert told["plan"]["digest"] == operator.live.get("/plan")["digest"]
        assert operator.live.get("/policy")["text"] == text
        load.more_answers(20)
    operator.settled()
    return text


def answered_by_the_server(live: Server) -> int:
    text = fetch(f"{live.url}/metrics").decode()
    found = re.findall(r'^scanflow_inferences_total{model="digits",.*} ([0-9.e+]+)$', text, re.M)
    return int(sum(map(float, found)))


@pytest.mark.parametrize("mode", ["uvicorn", "bentoml"])
def test_every_request_is_answered_once_whatever_changes_meanwhile(
    policy: Path, server: Serve, rows: np.ndarray
) -> None:
    with server(policy) as live:
        operator, load = Operator(live), Load(live.port, rows, deadline_ms=DEADLINE_MS)
        operator.settled()
        with operator.listening() as told, load.held(CLIENTS) as ledger:
            load.more_answers(50)
            load_and_unload(operator, load)
            pin(operator, load)
            fail(operator, load, rows)
            reload(operator, load, policy)
        assert ledger.wrong == []
        assert ledger.cut == 0
        assert sum(ledger.statuses.values()) == ledger.sent
        assert answered_by_the_server(live) == ledger.answered
    assert {"load", "unload", "pin", "decision", "failure", "recovery", "reload"} <= {
        event["kind"] for event in told
    }


@pytest.mark.parametrize("mode", ["bentoml"])
def test_worker_killed_under_load_cuts_its_own_connections_and_no_more(
    policy: Path, server: Serve, rows: np.ndarray
) -> None:
    with server(policy) as live:
        operator, load = Operator(live), Load(live.port, rows, deadline_ms=DEADLINE_MS)
        operator.settled()
        with load.held(CLIENTS) as ledger:
            load.more_answers(50)
            accepted = f"{policy.read_text()}description: accepted\n"
            operator.do("PUT", "/policy", accepted)
            (worker,) = live.workers()
            assert ledger.cut == 0
            worker.kill()
            psutil.wait_procs([worker], timeout=10)
            wait_until(lambda: is_ready(live.url), live.process, live.log)
            # Each client was waiting for at most one reply, and may have begun to send another.
            load.more_answers(50)
            cut = ledger.cut
            assert operator.live.get("/policy")["text"] == accepted
            load.more_answers(200)
        assert ledger.wrong == []
        assert ledger.cut == cut <= 2 * CLIENTS
        assert sum(ledger.statuses.values()) + ledger.cut == ledger.sent
