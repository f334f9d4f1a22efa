"""Many p-values at once: which hold together, and which are worth a look."""

from __future__ import annotations

import numpy as np

from scanflow_serve.runtime.tensors import Array


def holm(p: Array) -> Array:
    """Return p-values adjusted so that any error among all is no likelier than each says.

    Source:
        Holm (1979), "A simple sequentially rejective multiple test procedure".

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted


def benjamini_hochberg(p: Array) -> Array:
    """Return q-values: the share of errors expected among features as odd as each.

    Source:
        Benjamini & Hochberg (1995), "Controlling the false discovery rate".

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps[::-1])[::-1])
    return adjusted
