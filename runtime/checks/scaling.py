"""What puts features, and their errors, on one scale: learned from the fit split alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanflow_serve.runtime.tensors import Array

# A pixel that is nearly always blank is redrawn nearly always, and its median error is next to
# nothing: divided by that, its rare ink would be the whole error of a row.
LEAST_OF_MEAN = 0.5
TINY = 1e-6  # sd, in units of the feature's largest value: below it is constant


@dataclass(frozen=True, slots=True)
class Scaling:
    """Standardisation of features.

    Attributes:
        mean: Shape (features,), float64.
        inverse_sd: Shape (features,), float64; 0 for constant features, which so drop out. A
            range check has its say on them.
    """

    mean: Array
    inverse_sd: Array

    @classmethod
    def fit(cls, windows: Array) -> Scaling:
        """Return the scaling of *windows*, shape (windows, span, features).

        Raises:
            ValueError: There is one only, a value is not finite, or no feature varies.
        """
        if len(windows) < 2:
            raise ValueError(
                f"reference: must have >= 2 rows to fit, got {len(windows)}. Give more."
            )
        rows = windows.reshape(-1, windows.shape[2]).astype(np.float64)
        if not np.isfinite(rows).all():
            column = int(np.flatnonzero(~np.isfinite(rows).all(axis=0))[0])
            raise ValueError(
                f"reference: values must be finite, got nan or inf in feature {column}. "
                "Remove these rows, or repair them."
            )
        sd = rows.std(axis=0)
        varies = sd > TINY * np.maximum(np.abs(rows).max(axis=0), TINY)
        if not varies.any():
            raise ValueError("reference: a feature must vary, got constants only. Give live rows.")
        inverse = np.divide(1.0, sd, out=np.zeros_like(sd), where=varies)
        return cls(rows.mean(axis=0), inverse)

    @property
    def varying(self) -> int:
        """Return how many features are not constant."""
        return int((self.inverse_sd > 0).sum())

    @property
    def constant(self) -> tuple[int, ...]:
        """Return the places of the constant features."""
        return tuple(np.flatnonzero(self.inverse_sd == 0).tolist())

    def apply(self, windows: Array) -> Array:
        """Return *windows* with mean 0 and sd 1; constant features are 0."""
        scaled: Array = (windows - self.mean) * self.inverse_sd
        return np.where(self.inverse_sd == 0, 0.0, scaled)


def error_scale(squared: Array, scaling: Scaling) -> Array:
    """Return the error of each feature in normal times, shape (features,).

    Its median over rows, so that no feature dominates, but at least a share of its mean; inf for
    constant features, whose error then counts nothing.

    Args:
        squared: Squared errors of the fit split, shape (windows, span, features). Never of the
            calibration rows: their errors would no longer be exchangeable with live ones.
    """
    errors = squared.mean(axis=1)
    mean = errors.mean(axis=0)
    scale = np.maximum(np.median(errors, axis=0), LEAST_OF_MEAN * mean)
    # A feature that is redrawn to the last digit still counts, on the scale of rounding.
    scale = np.maximum(scale, 1e-6)
    return np.where(scaling.inverse_sd == 0, np.inf, scale)
