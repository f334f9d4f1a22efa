"""Principal components by numpy: the reconstructor that a device fits without any other library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scanflow_serve.runtime.checks.recipes import Recipe
from scanflow_serve.runtime.checks.scaling import Scaling, error_scale
from scanflow_serve.runtime.checks.trained import Redrawn
from scanflow_serve.runtime.tensors import Array

MOST_ROWS = 20_000  # that components are taken from: more change little, and cost memory


@dataclass(frozen=True, slots=True)
class Pca:
    """A subspace around which normal windows lie.

    Attributes:
        scaling: Of the features.
        components: Orthonormal rows, shape (components, span · features).
        scale: Error of each feature in normal times, shape (features,); inf where it is constant.
    """

    scaling: Scaling
    components: Array
    scale: Array

    @classmethod
    def fit(cls, windows: Array, made_by: Recipe) -> Pca:
        """Return the components of *windows*, shape (windows, span, features).

        Raises:
            ValueError: There is one row only, a value is not finite, or nothing varies.
        """
        scaling = Scaling.fit(windows)
        taken = np.linspace(0, len(windows) - 1, min(len(windows), MOST_ROWS)).astype(int)
        scaled = scaling.apply(windows[taken]).reshape(len(taken), -1)
        count = made_by.bottleneck(windows.shape[1] * scaling.varying)
        # Of the covariance where that is smaller: its vectors are the rows' right singular ones.
        _, vectors = np.linalg.eigh(scaled.T @ scaled)
        components = np.ascontiguousarray(vectors[:, ::-1][:, :count].T)
        self = cls(scaling, components, np.ones(windows.shape[2]))
        return cls(scaling, components, error_scale(self._squared(windows[taken])[0], scaling))

    def redraw(self, windows: Array) -> Redrawn:
        """Return errors and latents of *windows*."""
        squared, latent = self._squared(windows)
        by_feature = squared.mean(axis=1) / self.scale
        return Redrawn(by_feature.sum(axis=1) / self.scaling.varying, latent, by_feature)

    def state(self) -> dict[str, Array]:
        """Return it as arrays."""
        return {
            "mean": self.scaling.mean,
            "inverse_sd": self.scaling.inverse_sd,
            "components": self.components,
            "scale": self.scale,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Array]) -> Pca:
        """Return what `state` was taken of."""
        scaling = Scaling(state["mean"], state["inverse_sd"])
        return cls(scaling, state["components"], state["scale"])

    def _squared(self, windows: Array) -> tuple[Array, Array]:
        """Return squared errors, shaped as *windows*, and latents, shape (windows, components)."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self.scaling.apply(windows)
            wide = scaled.reshape(len(scaled), -1)
            latent = wide @ self.components.T
            rest = (wide - latent @ self.components).reshape(scaled.shape)
            return rest * rest, latent
