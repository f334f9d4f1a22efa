"""The engine answers under every public name, on the contract's policies and real sessions."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest

from scanflow_serve.converters.make import Maker
from scanflow_serve.converters.verification import gate
from scanflow_serve.policies.errors import BackendError, RequestError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.measurements import Latency, Measurements
from scanflow_serve.runtime.prepare import Prepared, prepare
from scanflow_serve.runtime.requests import Request, Response

CONTRACT = Path(__file__).parents[1] / "contract"
TEST = np.load(CONTRACT / "data" / "digits-test.npz")
PIXELS, LABELS = TEST["pixels"], TEST["label"]
HOST = HostProfile(kind="server", arch="x86_64", cpu=Cpu(cores=2), memory_mb=4096)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The contract's folder, and a cache of its own."""
    place = Path(shutil.copytree(CONTRACT, tmp_path_factory.mktemp("engine") / "contract"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANFLOW_CACHE", str(place / "cache"))
        yield place


def prepared(path: Path, host: HostProfile = HOST) -> Prepared:
    text = path.read_text().replace(
        "apiVersion", "measurement: {budget_s: 600}\napiVersion"
    )  # a busy machine must not leave candidates unmeasured
    return prepare(load_policy(path, text=text), host, ingest=Maker(host), gate=gate)


@pytest.fixture(scope="module")
def quickstart(folder: Path) -> Prepared:
    return prepared(folder / "quickstart.yaml")


@pytest.fixture
def engine(quickstart: Prepared) -> Iterator[Engine]:
    engine = Engine(quickstart)
    yield engine
    engine.close()


def ask(engine: Engine, name: str, rows: Any = PIXELS, **options: Any) -> Response:
    spec = engine.served(name).signature.inputs[0]
    request = Request(name, {spec.name: rows}, len(rows), **{"deadline_ms": 1e4, **options})
    return asyncio.run(engine.infer(request))


def busy(engine: Engine) -> tuple[int, int]:
    """Requests that wait, and batches that run."""
    counters = engine.counters()
    return counters.waiting, counters.running


def slow(prepared: Prepared, p95_ms: float) -> Prepared:
    """The same plan, its figures saying that any batch takes *p95_ms*."""
    latency = {1: Latency(p95_ms, p95_ms, 100)}
    measured = {
        key: replace(figures, latency=latency)
        for key, figures in prepared.measurements.measured.items()
    }
    return replace(prepared, measurements=Measurements(HOST.fingerprint, measured))


def test_policy_workflow_and_model_answer_alike(engine: Engine) -> None:
    assert engine.names() == ("digits", "classify", "digits-cnn")
    answers = [ask(engine, name) for name in engine.names()]
    for answer in answers:
        assert (answer.outputs["logits"].argmax(axis=1) == LABELS).mean() > 0.99
        assert answer.model == "digits-cnn"
        assert answer.variant.startswith("digits-cnn/")
        assert len(set(answer.prediction_ids)) == len(PIXELS)
    assert [answer.workflow for answer in answers] == ["classify", "classify", "model:digits-cnn"]


def test_more_rows_than_max_batch_are_answered_in_order(engine: Engine) -> None:
    whole = ask(engine, "digits").outputs["logits"]
    assert engine.policy_file.policy.scheduling.max_batch < len(PIXELS)
    for row in (0, 31, 32, len(PIXELS) - 1):
        one = ask(engine, "digits", PIXELS[row : row + 1]).outputs["logits"]
        np.testing.assert_allclose(whole[row : row + 1], one, rtol=1e-4, atol=1e-4)


def test_sub_millisecond_request_runs_on_the_event_loop(engine: Engine) -> None:
    pipeline = engine.served("digits").pipeline
    threads: list[threading.Thread] = []
    run = pipeline.run

    def spy(inputs: Any) -> Any:
        threads.append(threading.current_thread())
        return run(inputs)

    pipeline.run = spy
    ask(engine, "digits", PIXELS[:1])
    assert threads == [threading.main_thread()]


def test_longer_request_runs_on_a_worker_thread(quickstart: Prepared) -> None:
    engine = Engine(slow(quickstart, 50.0))
    pipeline = engine.served("digits").pipeline
    threads: list[str] = []
    run = pipeline.run

    def spy(inputs: Any) -> Any:
        threads.append(threading.current_thread().name)
        return run(inputs)

    pipeline.run = spy
    ask(engine, "digits", PIXELS[:1])
    engine.close()
    assert threads == ["inference_0"]


def test_deadline_that_can_not_be_met_is_refused_before_inference(quickstart: Prepared) -> None:
    engine = Engine(slow(quickstart, 50.0))

    def never(self: object, inputs: Any) -> Any:
        raise AssertionError("inference ran")

    pipeline = engine.served("digits").pipeline
    pipeline.run = MethodType(never, pipeline)
    with pytest.raises(RequestError, match=r"50 ms \(p95\) of inference on the fast") as refusal:
        ask(engine, "digits", PIXELS[:1], deadline_ms=None)  # the policy's: 20 ms
    engine.close()
    assert refusal.value.status == 504
    assert busy(engine) == (0, 0)


def test_cancelled_request_counts_until_its_inference_ends(quickstart: Prepared) -> None:
    engine = Engine(slow(quickstart, 5.0))
    running, go = threading.Event(), threading.Event()
    pipeline = engine.served("digits").pipeline
    run = pipeline.run

    def held(tensors: Any) -> Any:
        running.set()
        go.wait(60)
        return run(tensors)

    pipeline.run = held

    async def scenario() -> int:
        name = pipeline.signature.inputs[0].name
        task = asyncio.create_task(engine.infer(Request("digits", {name: PIXELS[:1]}, 1)))
        await asyncio.to_thread(running.wait, 60)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        counted = engine.counters().running
        go.set()
        while engine.counters().running:
            await asyncio.sleep(0.001)
        return counted

    assert asyncio.run(scenario()) == 1
    engine.close()


def test_failed_inference_leaves_the_queue_empty(engine: Engine) -> None:
    def fail(inputs: Any) -> Any:
        raise BackendError("out of luck")

    engine.served("digits").pipeline.run = fail
    with pytest.raises(BackendError, match="out of luck"):
        ask(engine, "digits", PIXELS[:1])
    assert busy(engine) == (0, 0)


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("nobody", None, r"'nobody' is unknown\. Loaded here: digits, classify, digits-cnn"),
        ("digits-mlp", None, r"'digits-mlp' is not loaded on this host"),
        ("digits", "9", r"'digits' has no version '9' here, only '1'"),
    ],
)
def test_what_is_not_loaded_is_a_404_that_says_what_is(
    engine: Engine, name: str, version: str | None, text: str
) -> None:
    with pytest.raises(RequestError, match=text) as refusal:
        engine.served(name, version)
    assert refusal.value.status == 404


TARGETS = {
    "raspberry-pi": (replace(HOST, kind="raspberry-pi", memory_mb=900.0), "A", "probabilities"),
    "desktop": (replace(HOST, kind="desktop"), "B2", "logits"),
    "cluster": (
        replace(HOST, kind="cluster", cpu=Cpu(cores=2, features=("avx512_vnni",))),
        "committee",
        "softmax",
    ),
    "otherwise": (HOST, "C1>C2>C3", "softmax"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TARGETS)
def test_every_target_of_the_device_rule_answers(folder: Path, kind: str) -> None:
    host, run, output = TARGETS[kind]
    engine = Engine(prepared(folder / "targets.yaml", host))
    answer = ask(engine, "fleet")
    engine.close()
    assert answer.workflow == run
    assert (answer.outputs[output].argmax(axis=1) == LABELS).mean() > 0.94
