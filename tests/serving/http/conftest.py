"""A whole fake runtime behind the real application, and a client that talks to it in-process."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.engine import Served
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.plan import Plan, Verdict
from scanflow_serve.runtime.prediction_ids import prediction_ids
from scanflow_serve.runtime.requests import Request, Response
from scanflow_serve.runtime.tensors import OutputKind, Signature, Tensors, TensorSpec
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.serving.app import ServingApp, create_app

QUICKSTART = Path(__file__).parents[2] / "contract" / "quickstart.yaml"
CHOSEN = Candidate("classify", (Variant("digits-mlp", "onnxruntime", "fp32"),))
DIGITS = Signature(
    (TensorSpec("pixels", "float32", (None, 64)),), (TensorSpec("logits", "float32", (None, 10)),)
)


def brightest(inputs: Tensors) -> Tensors:
    """Return the first ten pixels as logits: the class is the brightest of them."""
    return {"logits": np.ascontiguousarray(inputs["pixels"][:, :10])}


@dataclasses.dataclass
class FakePipeline:
    signature: Signature
    run: Callable[[Tensors], Tensors]
    output: str | None = "logits"
    kind: OutputKind = "logits"
    candidate: Candidate = CHOSEN


@dataclasses.dataclass
class FakeEngine:
    """What `runtime.engine.Engine` promises, over any function; remembers its requests."""

    policy_file: PolicyFile
    signature: Signature = DIGITS
    run: Callable[[Tensors], Tensors] = brightest
    output: str | None = "logits"
    kind: OutputKind = "logits"
    labels: tuple[str, ...] | None = None
    fails: Exception | None = None
    requests: list[Request] = dataclasses.field(default_factory=list)
    closed: bool = False

    @property
    def host(self) -> HostProfile:
        return HostProfile(kind="desktop", arch="x86_64", cpu=Cpu(cores=2.0), memory_mb=4096.0)

    @property
    def plan(self) -> Plan:
        return Plan(
            policy="digits",
            host=self.host.fingerprint,
            target=0,
            when="",
            run="classify",
            objective="maximize accuracy",
            chosen=CHOSEN,
            standbys=(),
            verdicts=(Verdict(CHOSEN, None, None),),
        )

    def names(self) -> tuple[str, ...]:
        return ("digits", "classify", "digits-mlp")

    def served(self, name: str, version: str | None = None) -> Served:
        if name not in self.names():
            raise RequestError(404, f"Model {name!r} is unknown. Loaded here: digits.")
        if version not in (None, "1"):
            raise RequestError(404, f"Model {name!r} has no version {version!r} here, only '1'.")
        kinds: Any = {"digits": "policy", "classify": "workflow"}
        pipeline: Any = FakePipeline(self.signature, self.run, self.output, self.kind)
        return Served(
            name=name,
            kind=kinds.get(name, "model"),
            model="digits-mlp",
            version="1",
            pipeline=pipeline,
            measurement=None,
            labels=self.labels,
        )

    async def infer(self, request: Request) -> Response:
        self.requests.append(request)
        if self.fails is not None:
            raise self.fails
        return Response(
            outputs=self.run(request.inputs),
            prediction_ids=prediction_ids(request.rows),
            model="digits-mlp",
            version="1",
            workflow="classify",
            variant=CHOSEN.variant_id,
            queue_ms=0.25,
            compute_ms=0.5,
        )

    def close(self) -> None:
        self.closed = True


class Client:
    """A synchronous client of the application, its lifespan begun."""

    def __init__(self, engine: FakeEngine, environ: Mapping[str, str], runner: asyncio.Runner):
        self.engine = engine
        world: Any = engine
        self.app: ServingApp = create_app(lambda: world, environ)
        self._runner = runner

    def start(self) -> Client:
        self._runner.run(self.app.application.startup())
        return self

    def stop(self) -> None:
        self._runner.run(self.app.application.shutdown())

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=("10.0.0.7", 4711))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost:3000"
            ) as client:
                return await client.request(method, path, **options)

        return self._runner.run(send())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


Serve = Callable[..., Client]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts the application: ``serve("serve: {…}", labels=(…))``."""
    runner = asyncio.Runner()
    started: list[Client] = []

    def begin(
        section: str = "",
        *,
        environ: Mapping[str, str] | None = None,
        folder: Path = QUICKSTART.parent,
        **world: Any,
    ) -> Client:
        text = f"{QUICKSTART.read_text()}\n{section}\n"
        engine = FakeEngine(load_policy(folder / QUICKSTART.name, text=text), **world)
        client = Client(engine, environ or {}, runner).start()
        started.append(client)
        return client

    yield begin
    for client in started:
        client.stop()
    runner.close()


@pytest.fixture
def row() -> list[float]:
    """Return one digit of which class 3 is the brightest."""
    return [5.0 if i == 3 else 0.0 for i in range(64)]
