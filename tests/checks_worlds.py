"""A world for the host of checks: digits, two variants of a model over them, streams, a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.checks.batches import batches
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.references import Subject
from scanflow_serve.runtime.checks.tap import Tapped
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.prediction_ids import prediction_ids
from scanflow_serve.runtime.tensors import Array, OutputKind, Signature, Tensors, TensorSpec

CONTRACT = Path(__file__).parent / "contract"
DIGITS = Signature(
    (TensorSpec("pixels", "float32", (None, 64)),), (TensorSpec("logits", "float32", (None, 10)),)
)
FIRST, SECOND = "near/onnxruntime-fp32", "far/onnxruntime-fp32"


def digits(part: str) -> tuple[Array, Array]:
    """Return the contract's pixels and labels of ``train``, ``validation`` or ``test``."""
    with np.load(CONTRACT / "data" / f"digits-{part}.npz") as file:
        return file["pixels"], file["label"]


@dataclass(frozen=True)
class Centroids:
    """A model that answers by the distance to each class's mean; *sharpness* is its confidence."""

    means: Array
    sharpness: float
    output: str | None = "logits"
    kind: OutputKind = "logits"

    def run(self, inputs: Tensors) -> Tensors:
        far = ((inputs["pixels"][:, None, :] - self.means) ** 2).sum(axis=2)
        return {"logits": (-self.sharpness * far).astype(np.float32)}


def models() -> dict[str, Centroids]:
    """Return two variants that differ in how sure they are, and little in what they answer."""
    pixels, labels = digits("train")
    means = np.stack([pixels[labels == each].mean(axis=0) for each in range(10)])
    return {FIRST: Centroids(means, 0.01), SECOND: Centroids(means + 0.4, 0.002)}


def policy_file(checks: str, extra: str = "") -> PolicyFile:
    """Return the contract's quickstart with *checks* and *extra* sections, as YAML."""
    text = (CONTRACT / "quickstart.yaml").read_text()
    return load_policy(CONTRACT / "quickstart.yaml", text=f"{text}\nchecks:\n{checks}\n{extra}")


@dataclass
class FakeClock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A host of checks and what it sees and tells."""

    checks: str
    state: Path
    extra: str = ""
    limit_s: float = 10.0
    cost_share: float = 0.05
    loaded: dict[str, Centroids] = field(default_factory=models)
    clock: FakeClock = field(default_factory=FakeClock)
    events: list[Event] = field(default_factory=list)

    def host(self, *, validation: bool = True, armed: bool = True) -> Host:
        """Return a host that is armed, as after a start of the server; or one that is fresh."""
        loaded = policy_file(self.checks, self.extra)
        if not validation:
            loaded = replace(loaded, policy=loaded.policy.model_copy(update={"validation": None}))
        subject = Subject(loaded, DIGITS, None, "classify", lambda: self.loaded)
        host = Host(
            subject,
            self.state,
            self.events.append,
            clock=self.clock,
            limit_s=self.limit_s,
            cost_share=self.cost_share,
        )
        if armed:
            host.arm()
        return host

    def answered(self, pixels: Array, variant: str = FIRST) -> Tapped:
        """Return one request of *pixels*, answered by *variant* a second after the last."""
        self.clock.now += 1.0
        inputs = {"pixels": pixels.astype(np.float32)}
        outputs = self.loaded[variant].run(inputs)
        ids = prediction_ids(len(pixels))
        return Tapped(ids, inputs, outputs, "logits", "logits", variant, self.clock.now, "", 0)

    def feed(self, host: Host, rows: Array, variant: str = FIRST, batch: int = 10) -> None:
        """Show *rows* to the host in requests of *batch*."""
        for at in range(0, len(rows), batch):
            host.process(batches([self.answered(rows[at : at + batch], variant)]), 1)

    def texts(self, of: str) -> list[str]:
        return [event.text for event in self.events if event.source == of]


def stream(seed: int, rows: int) -> Array:
    """Return rows that no model and no check has seen: each of 497 once, then each once more.

    Drawn with replacement they would not be exchangeable with the reference for long.
    """
    pixels = digits("test")[0]
    rng = np.random.default_rng(seed)
    rounds = [pixels[rng.permutation(len(pixels))] for _ in range(-(-rows // len(pixels)))]
    return np.concatenate(rounds)[:rows]


def inverted(rows: Array) -> Array:
    """Return rows as a camera with its polarity switched gives them."""
    return 16 - rows


def noisy(rows: Array, seed: int, sigma: float = 4.0) -> Array:
    """Return rows with noise, clipped to the range of pixels."""
    noise = np.random.default_rng(seed).normal(0, sigma, rows.shape)
    return np.clip(rows + noise, 0, 16)


def report(host: Host) -> Mapping[str, Any]:
    return {watch.name: (watch.life.phase, watch.life.state) for watch in host.watches}


def states(host: Host) -> Sequence[str]:
    return [watch.life.state for watch in host.watches]
