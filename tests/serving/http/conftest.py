"""A whole fake runtime behind the real application, and a client that talks to it in-process."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.engine import Counters, OptionCounters, Served
from scanflow_serve.runtime.events import Notify
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.plan import Plan, Verdict
from scanflow_serve.runtime.prediction_ids import prediction_ids
from scanflow_serve.runtime.requests import Request, Response
from scanflow_serve.runtime.tensors import OutputKind, Signature, Tensors, TensorSpec
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.serving import environment, reload_rules
from scanflow_serve.serving.app import ServingApp, create_app
from scanflow_serve.serving.home import Successor

T = TypeVar("T")
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
    hopeless: RequestError | None = None
    gate: asyncio.Event | None = None
    requests: list[Request] = dataclasses.field(default_factory=list)
    done: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    running: bool = False
    closed: bool = False
    facts: Any = None

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

    @property
    def queued(self) -> int:
        return int(self.hopeless is not None)

    def turn_away(
        self, served: Served, client: str, deadline_ms: float | None, prefer: str | None
    ) -> None:
        if self.hopeless is not None:
            raise self.hopeless

    async def infer(self, request: Request) -> Response:
        self.requests.append(request)
        if self.fails is not None:
            raise self.fails
        if self.gate is not None:
            await self.gate.wait()
        assert self.running
        return Response(
            outputs=self.run(request.inputs),
            prediction_ids=prediction_ids(request.rows),
            model="digits-mlp",
            version="1",
            workflow="classify",
            variant=CHOSEN.variant_id,
            queue_ms=0.25,
            compute_ms=0.5,
            labels=self.labels,
            output=self.output,
            kind=self.kind,
            accuracy=0.9,
            batch_rows=request.rows,
        )

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    async def load(self, name: str) -> None:
        self._known(name)
        self.done.append(("load", name))

    async def unload(self, name: str) -> None:
        self._known(name)
        self.done.append(("unload", name))

    def pin(self, what: str | None) -> None:
        if what is not None:
            self._known(what)
        self.done.append(("pin", what))

    def _known(self, name: str) -> None:
        if name not in self.policy_file.policy.models:
            raise RequestError(404, f"{name!r} is no model of the policy.")

    def pipelines(self, name: str) -> dict[str, Any]:
        return {CHOSEN.variant_id: self.served(name).pipeline}

    def watched_by(self, checks: Any) -> None:
        self.facts = checks

    def state(self) -> dict[str, Any]:
        return {"pinned": None, "lanes": [], "queue": {"queued": 0}, "decisions": []}

    def counters(self) -> Counters:
        variant = CHOSEN.variant_id
        option = OptionCounters("digits", variant, 1.5, False, memory_mb=2.0, failures=3)
        switches = {("digits", "slack"): 4}
        return Counters(1, 2, 3, switches, (option,), memory_mb=2.0, budget_mb=64.0)

    def close(self) -> None:
        assert not self.running
        self.closed = True


@dataclasses.dataclass
class FakeHome:
    """What `serving.home.Home` promises, over fake engines; remembers what was accepted."""

    engine: FakeEngine
    fails: Exception | None = None
    gate: asyncio.Event | None = None
    unkept: Exception | None = None
    made: list[FakeEngine] = dataclasses.field(default_factory=list)
    accepted: list[str] = dataclasses.field(default_factory=list)
    notify: Notify | None = None
    state: Path | None = None

    def start(self, notify: Notify) -> Any:
        self.notify = notify
        return self.engine

    async def successor(self, text: str, running: PolicyFile, notify: Notify) -> Successor:
        policy_file = reload_rules.successor(text, running)
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        engine: Any = FakeEngine(policy_file)
        self.made.append(engine)
        return Successor(engine, lambda: self._accept(text))

    def _accept(self, text: str) -> None:
        if self.unkept is not None:
            raise self.unkept
        self.accepted.append(text)


class Client:
    """A synchronous client of the application, its lifespan begun."""

    def __init__(self, engine: FakeEngine, environ: Mapping[str, str], runner: asyncio.Runner):
        self.engine = engine
        state = environ.get(environment.STATE)
        self.home = FakeHome(engine, state=None if state is None else Path(state))
        self.app: ServingApp = create_app(self.home, environ)
        self._runner = runner

    def start(self) -> Client:
        self._runner.run(self.app.application.startup())
        return self

    def stop(self) -> None:
        self._runner.run(self.app.application.shutdown())

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.run(self.send(method, path, **options))

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=("10.0.0.7", 4711))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost:3000"
        ) as client:
            return await client.request(method, path, **options)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* in the loop that the application runs in."""
        return self._runner.run(work)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

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
