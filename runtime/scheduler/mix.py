"""Which options the arrival rate affords: a share of requests on one, the rest on the next.

The best average worth within the host's capacity is a linear program with one constraint beside
the shares' sum; its optimum mixes at most two options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mix:
    """Indexes into the lane's options, best first.

    Attributes:
        upper: The best that is started from at all.
        lower: What the rest starts from; as `upper` where *share* is 1.
        share: Of rows that start from *upper*.
        load: Share of the host's capacity that this takes; above 1 if nothing suffices.
    """

    upper: int
    lower: int
    share: float
    load: float


def best_mix(worth: Sequence[float], cost: Sequence[float], capacity: float) -> Mix:
    """Return the shares with the best average worth whose average cost is within *capacity*.

    Args:
        worth: Of each option, best first.
        cost: Of a row on each, in ms of the whole host.
        capacity: Cost of a row that the arrival rate leaves room for, in the same unit.

    >>> best_mix([0.99, 0.90], [10.0, 2.0], capacity=8.0)
    Mix(upper=0, lower=1, share=0.75, load=1.0)
    """
    indexes = range(len(worth))
    affordable = [i for i in indexes if cost[i] <= capacity]
    if not affordable:
        cheapest = min(indexes, key=lambda i: (cost[i], i))
        return Mix(cheapest, cheapest, 1.0, cost[cheapest] / capacity if capacity > 0 else 1e9)
    first = affordable[0]  # best first: no later one that fits alone is worth more
    chosen = Mix(first, first, 1.0, cost[first] / capacity)
    most = worth[first]
    for upper in range(first):
        for lower in affordable:
            if worth[lower] >= worth[upper]:
                continue
            share = (capacity - cost[lower]) / (cost[upper] - cost[lower])
            average = share * worth[upper] + (1 - share) * worth[lower]
            if average > most:
                most, chosen = average, Mix(upper, lower, share, 1.0)
    return chosen


def fair_shares(needs: Sequence[float], weights: Sequence[float], total: float) -> list[float]:
    """Return what each of several gets of *total*: by weight, but nobody more than it needs.

    What one does not need goes to the others; what nobody needs, to all by weight.

    >>> fair_shares([0.1, 2.0, 2.0], [1.0, 1.0, 1.0], total=0.9)
    [0.1, 0.4, 0.4]
    """
    found = [0.0] * len(needs)
    open_ = {i for i, weight in enumerate(weights) if weight > 0}
    left = total
    while open_:
        weight = sum(weights[i] for i in open_)
        sated = {i for i in open_ if needs[i] <= left * weights[i] / weight}
        if not sated or sated == open_:
            for i in open_:
                found[i] = left * weights[i] / weight
            break
        for i in sated:
            found[i] = needs[i]
        left -= sum(needs[i] for i in sated)
        open_ -= sated
    return found
