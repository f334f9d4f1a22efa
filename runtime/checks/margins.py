"""How far beyond what was seen a clean value may lie, and how often clean rows still break that."""

from __future__ import annotations

import math

import numpy as np

from scanflow_serve.runtime.checks.input_schema import Bounds
from scanflow_serve.runtime.tensors import Array


def widened(values: Array, margin: float) -> Bounds | None:
    """Return the range of *values*, wider by *margin* of its width on both sides; NaN aside."""
    present = values[~np.isnan(values)]
    if not present.size:
        return None
    low, high = float(present.min()), float(present.max())
    room = margin * (high - low)
    return outward(low, high, low - room, high + room)


def outward(low: float, high: float, lowest: float, highest: float) -> Bounds:
    """Return *lowest* and *highest*, rounded to four digits of their distance, outwards.

    What never was negative is not expected to be: where *low* >= 0, the bound is too.

    >>> outward(0.0, 16.0, -1.6, 17.6)
    [0.0, 17.6]
    """
    if lowest < 0 <= low:
        lowest = 0.0
    if highest > 0 >= high:
        highest = 0.0
    if highest <= lowest:
        return [low, high]
    digits = 3 - math.floor(math.log10(highest - lowest))
    if not -300 < digits < 300:
        return [lowest, highest]
    scale = 10.0**digits
    if not math.isfinite(highest * scale - lowest * scale):
        return [lowest, highest]
    # 17.6 * 1000 is a little more than 17600: what is off by rounding is not a digit more.
    rounded = (
        math.floor(lowest * scale + 1e-6) / scale,
        math.ceil(highest * scale - 1e-6) / scale,
    )
    return [
        min(low, round(rounded[0], max(digits, 0))),
        max(high, round(rounded[1], max(digits, 0))),
    ]


def upper_bound(broken: int, rows: int) -> float:
    """Return the upper 95 % bound (one-sided) of a share of which *broken* of *rows* were seen.

    Source:
        Wilson (1927); for none the exact bound, 1 - 0.05^(1/n).
    """
    if not rows:
        return 1.0
    if not broken:
        return 1 - math.exp(math.log(0.05) / rows)
    z, share = 1.645, broken / rows
    centre = share + z * z / (2 * rows)
    spread = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return min(1.0, (centre + spread) / (1 + z * z / rows))
