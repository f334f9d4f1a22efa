"""Several detectors on the same rows, one budget of false alarms.

No single check sees every shift; their wealths are averaged, so that the model's mean run length is
at least A whatever they have in common, and the shares of the sum name the cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np

from scanflow_serve.runtime.checks.statistics.shiryaev_roberts import MOST


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the detectors of a model stand.

    Attributes:
        wealth: Weighted sum, at most e**700.
        alarm: Whether the sum has reached the run length.
        alarming: Detectors whose weighted wealth alone has.
        shares: What each contributed to the sum, the largest first; they sum to 1, or are 0 before
            the first row.
    """

    wealth: float
    alarm: bool
    alarming: tuple[str, ...]
    shares: Mapping[str, float]


def standing(
    log_wealth: Mapping[str, float], weights: Mapping[str, float], run_length: int
) -> Standing:
    """Return where detectors stand against one budget of *run_length* rows between false alarms.

    Args:
        log_wealth: Of each detector; -inf before its first row.
        weights: Of each detector; they sum to at most 1.
        run_length: Rows; A.

    Source:
        Linearity: each wealth less the rows seen is a supermartingale, and so is a weighted sum.
    """
    weighted = {name: value + log(weights[name]) for name, value in log_wealth.items()}
    total = float(np.logaddexp.reduce(list(weighted.values()))) if weighted else -inf
    threshold = log(run_length)
    ordered = sorted(weighted.items(), key=lambda item: -item[1])
    return Standing(
        wealth=exp(min(total, MOST)),
        alarm=total >= threshold,
        alarming=tuple(name for name, value in ordered if value >= threshold),
        shares={name: exp(value - total) if total > -inf else 0.0 for name, value in ordered},
    )
