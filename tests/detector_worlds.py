"""Streams for reconstruction detectors: the contract's digits, and sines whose rows are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting
from scanflow_serve.runtime.checks.scored import observed
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec

CONTRACT = Path(__file__).parent / "contract"
DIGITS = Setting(
    Signature(
        (TensorSpec("pixels", "float32", (None, 64)),),
        (TensorSpec("logits", "float32", (None, 10)),),
    )
)
CHANNELS = Setting(
    Signature(
        (TensorSpec("sensor", "float32", (None, 4)),), (TensorSpec("out", "float32", (None, 1)),)
    )
)
PERIOD = 23.7  # rows; no multiple of a window, else all windows of a stream have the same phase


def pixels(part: str) -> Array:
    with np.load(CONTRACT / "data" / f"digits-{part}.npz") as file:
        return file["pixels"]


def digits_reference(rows: int = 1000) -> Reference:
    return Reference({"pixels": pixels("train")[:rows]}, source="digits-train.npz")


def live(name: str, rows: Array, session: str = "") -> Observed:
    return observed(Reference({name: rows}), "", session)


def sines(rows: int, seed: int, *, faster: float = 1.0, coupled: bool = True) -> Array:
    """Return four channels of one sine, each a little later; each row alone is alike throughout."""
    rng = np.random.default_rng(seed)

    def phase() -> Array:
        turns = np.full(rows, 2 * np.pi / PERIOD * faster) + rng.normal(0, 0.02, rows)
        return np.cumsum(turns) + rng.uniform(0, 2 * np.pi)

    common = phase()
    phases = [common + 0.7 * lag if coupled else phase() for lag in range(4)]
    wave = np.sin(np.stack(phases, axis=1)) + rng.normal(0, 0.1, (rows, 4))
    return wave.astype(np.float32)
