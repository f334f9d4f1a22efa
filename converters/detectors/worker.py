"""The child process of `detectors.runner`: trains one detector and writes it as ONNX.

``python -m scanflow_serve.converters.detectors.worker``, the job's JSON on stdin.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.converters.detectors.training import Training, train
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.artifacts import Artifact, Manifest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.checks.recipes import Recipe
from scanflow_serve.runtime.checks.trained import BACKEND, INPUT, OUTPUTS
from scanflow_serve.runtime.process import bound_memory, die_with_parent
from scanflow_serve.runtime.tensors import Array, TensorSpec

PARITY = 1e-5  # relative difference between torch and the backend, at most
PARITY_ROWS = 256


def make(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the detector that *job* asks for, or the error; its file is written."""
    made_by = Recipe(**job["recipe"])
    windows = np.load(job["windows"], allow_pickle=False)
    path = Path(job["path"])

    def progress(done: int, total: int, what: str) -> None:
        _write(Path(job["progress"]), [done, total, what])

    try:
        trained = train(windows, made_by, progress)
        progress(made_by.epochs, made_by.epochs, "exporting")
        _export(trained, windows, path)
        difference = parity(trained, windows[:PARITY_ROWS], path)
    except (ValueError, ArtifactError) as error:
        return {"error": str(error)}
    except MemoryError:
        return {"memory": ""}
    return {
        "epochs": trained.epochs,
        "error_held_out": trained.error,
        "constant": list(trained.constant),
        "parity": difference,
    }


def parity(trained: Training, windows: Array, path: Path) -> float:
    """Return the largest relative difference of what torch and the backend make of *windows*.

    Raises:
        ArtifactError: It is more than rounding explains.
    """
    import torch

    rows = windows[:, 0] if trained.detector.flat else windows
    with torch.inference_mode():
        expected = trained.detector(torch.tensor(rows))
    artifact = Artifact(
        id="", model="", format="onnx", precision="fp32", path=path,
        size_bytes=path.stat().st_size, signature=registry.backend(BACKEND).signature(str(path)),
        manifest=Manifest("", ""),
    )  # fmt: skip
    session = registry.backend(BACKEND).open(
        artifact, precision="fp32", device=registry.CPU, threads=1
    )
    found = session.run({INPUT: np.ascontiguousarray(rows)})
    worst = 0.0
    for name in OUTPUTS:
        wanted = expected[name].numpy().astype(np.float64)
        size = max(1.0, float(np.abs(wanted).max(initial=0)))
        worst = max(worst, float(np.abs(found[name] - wanted).max(initial=0)) / size)
    if not worst <= PARITY:
        raise ArtifactError(
            f"{path.name}: torch and {BACKEND} must differ by <= {PARITY:g}, got {worst:.2g}. "
            "Update onnxruntime, torch and onnxscript."
        )
    return worst


def _export(trained: Training, windows: Array, path: Path) -> None:
    from scanflow_serve.converters.origins.torch_calls import Call
    from scanflow_serve.converters.origins.torch_export import write_onnx

    _, steps, features = windows.shape
    shape = (None, features) if trained.detector.flat else (None, steps, features)
    call = Call((TensorSpec(INPUT, "float32", shape),), keywords=True)
    write_onnx("detector", trained.detector, call, path)


def main() -> None:
    """Run the job on stdin; leave the result beside the detector."""
    die_with_parent()
    os.dup2(2, 1)  # what libraries print belongs to the log of a failure
    warnings.simplefilter("ignore")  # the libraries' own; nobody reads them here
    job = json.load(sys.stdin)
    bound_memory(job["memory_mb"])
    _write(Path(job["result"]), make(job))


def _write(path: Path, value: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value))
    partial.replace(path)


if __name__ == "__main__":
    main()
