"""How a reconstructor is made: its method and settings, and the address of what they make.

Training happens where torch is; a device finds the outcome by what it was made from. It has no
torch whose version could be part of the address: that of the recipe is, and the manifest tells
the tools.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scanflow_serve.runtime.store import artifact_key
from scanflow_serve.runtime.tensors import Array

VERSION = 1  # of networks and training: whoever changes them raises it
LEAST_FEATURES = 4  # a bottleneck of one is at most a quarter of them
STEPS = 32  # rows of a window, where the policy does not say
EPOCHS = 300  # at most; early stopping ends most trainings after some 60

SEQUENCES = ("window_dense", "lstm")
TRAINED = ("autoencoder", *SEQUENCES)
METHODS = ("pca", *TRAINED)
DEFAULT = "autoencoder"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be made.

    Attributes:
        method: One of `METHODS`.
        components: Width of the bottleneck; None: by the features.
        steps: Rows of a window; 1: each row by itself.
        epochs: Of training, at most.
        seed: Of all that is drawn at random.
    """

    method: str
    components: int | None = None
    steps: int = 1
    epochs: int = EPOCHS
    seed: int = 0

    def bottleneck(self, features: int) -> int:
        """Return the width of the bottleneck for *features* that vary, over all steps.

        Raises:
            ValueError: The policy's own is more than a quarter of them.

        >>> Recipe("autoencoder").bottleneck(64)
        12
        """
        most = features // LEAST_FEATURES
        if self.components is not None:
            if self.components > most:
                raise ValueError(
                    f"components must be <= {features} features that vary / {LEAST_FEATURES} = "
                    f"{most}, got {self.components}. Give fewer: a wide one copies its input."
                )
            return self.components
        # Rows of a window resemble their neighbours: fewer components redraw them.
        share = 5 if self.steps == 1 else 16
        return min(32, max(min(1, most), features // share))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def recipe(
    method: str,
    *,
    components: int | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
) -> Recipe:
    """Return the recipe of what a policy says.

    Raises:
        ValueError: A setting is not of this method, or out of its range.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    if steps is not None and method not in (*SEQUENCES, "pca"):
        raise ValueError(
            f"steps must come with method {', '.join(SEQUENCES)} or pca, got method {method!r}. "
            "It looks at each row by itself."
        )
    if epochs is not None and method not in TRAINED:
        raise ValueError(f"epochs must come with method {', '.join(TRAINED)}, got {method!r}.")
    for name, value, least in (("components", components, 1), ("steps", steps, 2)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}.")
    default = STEPS if method in SEQUENCES else 1
    return Recipe(method, components, steps or default, epochs or EPOCHS, seed)


def detector_key(made_by: Recipe, matrix: Array, run: Array | None) -> str:
    """Return the address of the detector that *made_by* makes of the fit split.

    Args:
        matrix: Its rows, shape (rows, features), float32.
        run: Unbroken stretch of each row, where rows are in order.
    """
    digest = hashlib.sha256(str(matrix.shape).encode())
    digest.update(np.ascontiguousarray(matrix, dtype="<f4").tobytes())
    if made_by.steps > 1 and run is not None:
        starts = np.flatnonzero(np.diff(run)).astype("<i8")
        digest.update(starts.tobytes())
    return artifact_key(
        digest.hexdigest(),
        ["detector", made_by.method],
        made_by.to_json(),
        {"recipe": str(VERSION)},
    )
