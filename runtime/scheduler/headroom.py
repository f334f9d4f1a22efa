"""How much of the host the mix may plan with: what is left absorbs bursts."""

from __future__ import annotations

import math

LATE = 0.05  # share that may wait for longer than there is time: it gets a thriftier option then
SERVICE = 0.5  # squared coefficient of variation of calls; a mix of two options has about that


def planned_load(
    variation: float, row_ms: float, slack_ms: float, *, least: float, most: float
) -> float:
    """Return the highest load whose waits fit into what requests have left.

    In heavy traffic a wait is exponential; its mean is the product of what a row costs, how
    irregular arrivals and calls are, and 1 / (1 - load).

    Args:
        variation: Of the arrivals: variance over mean of their counts; 1 for Poisson.
        row_ms: What a row costs, in ms of the whole host.
        slack_ms: What a request may wait.
        least: Not below; where arrivals come in bursts, choosing by slack holds the deadlines.
        most: Not above.

    Source:
        Kingman (1961), The single server queue in heavy traffic.

    >>> round(planned_load(1.0, 14.0, 420.0, least=0.85, most=0.95), 3)
    0.925
    """
    if slack_ms <= 0:
        return least
    idle = math.log(1 / LATE) * (variation + SERVICE) / 2 * row_ms / slack_ms
    return min(max(1 - idle, least), most)
