"""A trained reconstructor out of the store, run by a backend: its ONNX computes the error."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np

from scanflow_serve.policies.errors import BackendError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.store import held_in_store, shared_store
from scanflow_serve.runtime.tensors import Array

INPUT = "rows"  # of the ONNX graph; shape (windows, features) or (windows, steps, features)
OUTPUTS = ("err", "z", "err_feature")
BACKEND = "onnxruntime"
BATCH = 4096  # rows at once: bounds what a large reference takes


@dataclass(frozen=True, slots=True)
class Redrawn:
    """What a reconstructor makes of windows.

    Attributes:
        err: Shape (windows,), float64.
        z: Place in the bottleneck, shape (windows, components), float64.
        err_feature: Error of each feature, 1 or so in normal times, shape (windows, features).
    """

    err: Array
    z: Array
    err_feature: Array


class Trained:
    """One trained detector, loaded; no garbage collection of the store takes it meanwhile.

    Raises:
        MissingExtraError, BackendError, ArtifactError: It can't be loaded.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        held = held_in_store(artifact)
        if held is not None:  # a check that is rebased leaves it to the garbage collector
            weakref.finalize(self, held.close)
        self._session = registry.backend(BACKEND).open(
            artifact, precision="fp32", device=registry.CPU, threads=1
        )
        found = {spec.name for spec in self._session.signature.outputs}
        if found != set(OUTPUTS):
            raise BackendError(
                f"{artifact.path}: outputs must be {', '.join(OUTPUTS)}, got {sorted(found)}. "
                "Run: scanflow-serve fit-checks POLICY"
            )
        self._flat = len(self._session.signature.inputs[0].shape) == 2

    def redraw(self, windows: Array) -> Redrawn:
        """Return errors and latents of *windows*, shape (windows, span, features), float32."""
        given = windows[:, 0] if self._flat else windows
        given = np.ascontiguousarray(given, np.float32)
        parts = [
            self._session.run({INPUT: given[at : at + BATCH]})
            for at in range(0, max(1, len(given)), BATCH)
        ]
        err, z, err_feature = (
            np.concatenate([part[name] for part in parts]).astype(np.float64) for name in OUTPUTS
        )
        return Redrawn(err, z, err_feature)

    def state(self) -> dict[str, Array]:
        """Return nothing: the store has it."""
        return {}


def stored_detector(key: str) -> Artifact | None:
    """Return the trained detector at *key* in the store that policies share, None if none is."""
    return shared_store().find(key) if key else None
