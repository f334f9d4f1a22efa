"""The policies whose checks are measured: two models of digits, each with and without checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import family
import numpy as np
from contenders import BUILD
from load import Body
from numpy.typing import NDArray

FOLDER = BUILD / "checks"
PROGRAM = Path(sys.executable).with_name("scanflow-serve")
CACHE = {"SCANFLOW_CACHE": str(FOLDER / "cache")}
DATA = family.DATA
SLOWER = family.Member("digits-slower", 64, 2)
SIDE = 64  # pixels: with so many filters, about a millisecond a row
POLICY = """\
apiVersion: scanflow/v1
name: bench
models:
  net:
    source: {model}
    task: classification
    variants: {{backends: [onnxruntime], precisions: [fp32], threads: [1]}}
validation: {{data: digits-validation.npz, input: pixels, target: label, metric: accuracy}}
workflows: {{only: {{steps: [{{model: net}}]}}}}
targets: [{{run: only}}]
objective: {{maximize: accuracy}}
"""
CHECKS = """\
checks:
  - integrity: {reference: digits-train.npz, input: pixels}
  - drift: {reference: digits-train.npz, input: pixels}
  - anomaly: {reference: digits-train.npz, input: pixels}
  - balance: {reference: digits-validation.npz, input: pixels, target: label}
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """One model's two policies.

    Attributes:
        off: Without checks.
        on: With all default checks, their autoencoder trained.
    """

    name: str
    off: Path
    on: Path


def pairs() -> tuple[Pair, Pair]:
    """Write the policies of a model of about 1 ms and of the quickstart's, and fit their checks."""
    family.build(FOLDER / "models", (SLOWER,), side=SIDE)
    quick = DATA.parent / "models" / "digits-mlp.onnx"
    return (
        _pair("1 ms", FOLDER / "models" / f"{SLOWER.name}.onnx"),
        _pair("quickstart's MLP", quick),
    )


def _pair(name: str, model: Path) -> Pair:
    off, on = (FOLDER / f"{model.stem}-{part}" / "policy.yaml" for part in ("off", "on"))
    for path, checks in ((off, ""), (on, CHECKS)):
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / model.name).write_bytes(model.read_bytes())
        for part in ("train", "validation"):
            file = f"digits-{part}.npz"
            (path.parent / file).write_bytes((DATA / file).read_bytes())
        path.write_text(POLICY.format(model=model.name) + checks)
    command = [PROGRAM, "fit-checks", on]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **CACHE})
    return Pair(name, off, on)


def rows_of(*parts: str) -> NDArray[np.float32]:
    """Return the pixels of ``train``, ``validation`` or ``test``, shape (rows, 64)."""
    files = (np.load(DATA / f"digits-{part}.npz") for part in parts)
    return np.concatenate([file["pixels"].astype(np.float32) for file in files])


def bodies() -> list[Body]:
    """Return a request for each digit that no model was trained on, in random order."""
    rows = rows_of("validation", "test")
    order = np.random.default_rng(0).permutation(len(rows))
    return [_body(row) for row in rows[order]]


def _body(row: NDArray[np.float32]) -> Body:
    tensor = {"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": row.tolist()}
    return Body(json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})
