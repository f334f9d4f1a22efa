"""How unsure a model is of each row: scores of its class probabilities, for `Calibration`."""

from __future__ import annotations

import numpy as np

from scanflow_serve.runtime.tensors import Array


def least_confidence(probabilities: Array) -> Array:
    """Return 1 - the largest probability of each row, shape (rows,), float64.

    Args:
        probabilities: Shape (rows, classes).

    >>> least_confidence(np.array([[0.5, 0.25, 0.25]]))
    array([0.5])
    """
    score: Array = 1 - np.asarray(probabilities, dtype=np.float64).max(axis=1)
    return score


def entropy(probabilities: Array) -> Array:
    """Return the entropy of each row in nats, shape (rows,), float64.

    Args:
        probabilities: Shape (rows, classes); one of 0, or below by rounding, adds nothing.

    >>> entropy(np.array([[0.5, 0.5, 0.0]])).round(4)
    array([0.6931])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    some = np.where(p > 0, p, 1.0)
    score: Array = -(some * np.log(some)).sum(axis=1) + 0.0
    return score
