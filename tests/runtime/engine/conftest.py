"""Digit classifiers behind the engine: real files and sessions, figures as the tests need them."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scanflow_serve.converters.make import Maker
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.calibration.calibrate import Calibration
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.engine.residents import open_session
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.measurements import Latency, Measurement
from scanflow_serve.runtime.prepare import Prepared, prepare
from scanflow_serve.runtime.requests import Request, Response
from scanflow_serve.runtime.tensors import OutputKind, Tensors
from scanflow_serve.runtime.variants import Variant

CONTRACT = Path(__file__).parents[2] / "contract"
HOST = HostProfile(kind="server", arch="x86_64", cpu=Cpu(cores=2), memory_mb=4096)
PIXELS = np.load(CONTRACT / "data" / "digits-test.npz")["pixels"]

MODEL = "source: models/digits-{}.onnx, variants: {{backends: [onnxruntime], threads: [1]}}"
POLICY = f"""
apiVersion: scanflow/v1
name: digits
models:
  small: {{{MODEL.format("mlp")}}}
  medium: {{{MODEL.format("cnn")}}}
  large: {{{MODEL.format("cnn-large")}}}
validation: {{data: data/digits-validation.npz, input: pixels, target: label}}
workflows:
  classify: {{steps: [{{model: [small, medium, large]}}]}}
targets: [{{run: classify}}]
objective: {{maximize: accuracy}}
scheduling: {{default_deadline_ms: 10000}}
"""
# Model -> latency of a call in ms, and accuracy: one is worth more the longer it takes.
FIGURES = {"small": (0.05, 0.93), "medium": (0.1, 0.96), "large": (0.2, 0.99)}


@dataclass
class Script:
    """What the sessions of one model are to do, and what they did.

    Attributes:
        rows: Of each call, in order.
        threads: That called.
        fails: Raised by each call, while it is set.
        spoils: Each call gives NaN, while it is set.
        gate: Calls wait for it.
        opened: How many sessions were opened, and closed.
    """

    rows: list[int] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    fails: BaseException | None = None
    spoils: bool = False
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)
    opened: int = 0
    closed: int = 0


class ScriptedSession:
    """A real session that does as its script says."""

    def __init__(self, session: Session, script: Script) -> None:
        self._session = session
        self._script = script
        self.signature = session.signature
        self.precision = session.precision
        self.device = session.device
        self.threads = session.threads
        script.opened += 1

    def run(self, inputs: Mapping[str, Any]) -> Tensors:
        script = self._script
        script.rows.append(len(next(iter(inputs.values()))))
        script.threads.append(threading.current_thread().name)
        script.entered.set()
        if script.gate is not None:
            assert script.gate.wait(60)
        if script.fails is not None:
            raise script.fails
        outputs = self._session.run(inputs)
        if script.spoils:
            return {name: np.full_like(array, np.nan) for name, array in outputs.items()}
        return outputs

    def close(self) -> None:
        self._script.closed += 1
        self._session.close()


@dataclass
class World:
    """Makes engines, and knows what their sessions and events were.

    Attributes:
        figures: As `FIGURES`; set before an engine is made.
        kinds: What the classification output of a run with the model holds, if not logits.
    """

    folder: Path
    figures: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(FIGURES))
    kinds: dict[str, OutputKind] = field(default_factory=dict)
    scripts: dict[str, Script] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    host: HostProfile = HOST
    engines: list[Engine] = field(default_factory=list)

    def script(self, model: str) -> Script:
        return self.scripts.setdefault(model, Script())

    def prepared(self, **sections: Any) -> Prepared:
        """The policy above with *sections* in place of its own; as it would be prepared."""
        text = yaml.safe_dump(yaml.safe_load(POLICY) | sections)
        path = self.folder / "policy.yaml"
        path.write_text(text)
        policy = load_policy(path)
        return prepare(
            policy,
            self.host,
            ingest=Maker(self.host),
            gate=lambda *outputs, **options: None,
            calibrate=self._calibrate,
        )

    def engine(self, prepared: Prepared | None = None, /, **options: Any) -> Engine:
        engine = Engine(
            prepared or self.prepared(),
            notify=self.events.append,
            open_one=self._open,
            **options,
        )
        self.engines.append(engine)
        return engine

    def told(self, kind: str) -> list[str]:
        return [event.source for event in self.events if event.kind == kind]

    def _open(self, variant: Variant, artifact: Artifact) -> Session:
        return ScriptedSession(open_session(variant, artifact), self.script(variant.model))

    def _calibrate(self, policy: Any, host: Any, candidates: Any, *_: Any, **__: Any) -> Any:
        return Calibration(measured={c.id: self._measured(c.run, c.models) for c in candidates})

    def _measured(self, run: str, models: Sequence[str]) -> Measurement:
        alone = run.startswith("model:")
        ms = sum(self.figures[model][0] for model in models)
        latency = {n: Latency(ms * (0.8 + 0.2 * n), ms * (0.8 + 0.2 * n), 9) for n in (1, 8, 32)}
        return Measurement(
            load_s=0.1,
            memory_mb=100.0 * len(models),
            latency=latency,
            throughput_rps=1000 / ms,
            best_batch=32,
            size_mb=1.0,
            accuracy=max(self.figures[model][1] for model in models),
            accuracy_rows=100,
            kind="logits" if alone else self.kinds.get(models[0], "logits"),
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    shutil.copytree(CONTRACT, tmp_path, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
        world = World(tmp_path)
        yield world
        for script in world.scripts.values():
            if script.gate is not None:
                script.gate.set()
        for engine in world.engines:
            engine.close()


Ask = Callable[..., Any]


@pytest.fixture
def ask() -> Ask:
    """Asks an engine for one row's answer, or that of more."""

    async def one(engine: Engine, name: str = "digits", at: int = 0, **options: Any) -> Response:
        rows = options.pop("rows", 1)
        (spec,) = engine.served(name).signature.inputs
        inputs = {spec.name: options.pop("pixels", PIXELS[at : at + rows])}
        return await engine.infer(Request(name, inputs, rows, **options))

    return one


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what must come, for as long as no working machine takes."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return until


@pytest.fixture
def pixels() -> Any:
    return PIXELS


def slower(world: World, model: str, ms: float) -> None:
    """Let *model* take *ms* a call by its figures."""
    world.figures[model] = (ms, world.figures[model][1])


@pytest.fixture
def longer(world: World) -> Callable[[str, float], None]:
    return lambda model, ms: slower(world, model, ms)
