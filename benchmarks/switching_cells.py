"""One cell of the comparison: a trace at a load, sent to one server, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from openloop import Outcomes, Schedule

from scanflow_serve.runtime.simulation.arrivals import (
    Gamma,
    Load,
    Mmpp,
    Poisson,
    Spike,
    Step,
    drawn,
)

BLOCK_S = 1.0  # what is drawn again by the bootstrap: requests of one instant share their fate
REFUSED = (429, 503, 504)
LOADS = (0.3, 0.6, 0.9, 1.2, 2.0, 5.0)  # x capacity


@dataclass(frozen=True, slots=True)
class Cell:
    """A trace; *load* is its mean as a multiple of the capacity, of those that have one."""

    trace: str
    load: float

    @property
    def title(self) -> str:
        """Return the trace with its load."""
        return f"{self.trace} {self.load:g} x"

    def shape(self, capacity_rps: float, seconds: float) -> Load:
        """Return the arrivals' law; of MMPP, step and spike, *load* is the mean."""
        rate = self.load * capacity_rps
        if self.trace == "poisson":
            return Poisson(rate=rate, seconds=seconds)
        if self.trace == "gamma":
            return Gamma(rate=rate, cv2=4, seconds=seconds)
        if self.trace == "mmpp":
            return Mmpp(low=0.4 * rate, high=1.6 * rate, dwell_s=1.0, seconds=seconds)
        if self.trace == "step":
            return Step(low=0.4 * rate, high=1.6 * rate, at=seconds / 2, seconds=seconds)
        width = seconds / 10
        peak = 5 * capacity_rps
        base = max(0.0, (rate * seconds - peak * width) / (seconds - width))
        return Spike(base=base, peak=peak, at=seconds / 2, width=width, seconds=seconds)


CELLS = (
    *(Cell("poisson", load) for load in LOADS),
    *(Cell("gamma", load) for load in (0.3, 0.6, 0.9)),
    Cell("mmpp", 0.75),  # 0.3 and 1.2 in turn
    Cell("step", 0.75),  # from 0.3 to 1.2
    Cell("spike", 0.8),  # 0.33, with a peak of 5 for a tenth of the time
)


def schedule(cell: Cell, capacity_rps: float, seconds: float, seed: int, bodies: int) -> Schedule:
    """Return the requests of *cell*; those of one seed are the same for every server."""
    arrivals = drawn(cell.shape(capacity_rps, seconds), seed)
    at = np.array([arrival.at for arrival in arrivals])
    # Each row about equally often: which rows were drawn must not decide who is better.
    rounds = -(-len(at) // bodies)
    draw = np.random.default_rng(seed)
    rows = np.concatenate([draw.permutation(bodies) for _ in range(rounds)])
    return Schedule(at, rows[: len(at)])


@dataclass(frozen=True, slots=True)
class Record:
    """What one server did with one cell, once.

    Attributes:
        trace, load: Of the cell.
        rival: Key of the server.
        requests: All that were due.
        in_time: Answered inside the limit.
        right: Of these, with the class that the row really has.
        rated: Sum, over `in_time`, of the held-out accuracy of the model that answered: what
            `right` would be on average, without the luck of the rows.
        late: Answered after the limit.
        refused: 429, 503 or 504.
        failed: Any other status, or nothing at all within the time.
        p50_ms, p99_ms: Of answers, from the instant at which they were due.
        sent_late_ms: p99 of the generator's own delay; is part of the latencies.
        answers: In time or late, by model.
        blocks: By `BLOCK_S` of due time: requests, `in_time`, `rated`.
    """

    trace: str
    load: float
    rival: str
    repeat: int
    seconds: float
    requests: int
    in_time: int
    right: int
    rated: float
    late: int
    refused: int
    failed: int
    p50_ms: float
    p99_ms: float
    sent_late_ms: float
    answers: Mapping[str, int]
    blocks: tuple[tuple[int, int, float], ...]

    @property
    def cell(self) -> Cell:
        """Return the cell."""
        return Cell(self.trace, self.load)


def record(
    cell: Cell,
    rival: str,
    repeat: int,
    seconds: float,
    found: Outcomes,
    classes: NDArray[np.int64],
    accuracy: Mapping[str, float],
    model: str,
    limit_s: float,
) -> Record:
    """Return the figures of *found*.

    Args:
        classes: What each request's row really shows.
        accuracy: Of each model, on held-out rows.
        model: What answered where an answer does not say.
    """
    good = found.status == 200
    in_time = good & (found.latency_s <= limit_s)
    right = in_time & (found.predicted == classes)
    by = np.array([name or model for name in found.by])
    rated = np.array([accuracy[name] for name in by]) * in_time
    refused = np.isin(found.status, REFUSED)
    latencies = found.latency_s[good] * 1000
    answers = Counter(by[good].tolist())
    return Record(
        trace=cell.trace,
        load=cell.load,
        rival=rival,
        repeat=repeat,
        seconds=seconds,
        requests=len(found),
        in_time=int(in_time.sum()),
        right=int(right.sum()),
        rated=float(rated.sum()),
        late=int((good & ~in_time).sum()),
        refused=int(refused.sum()),
        failed=int((~good & ~refused).sum()),
        p50_ms=_percentile(latencies, 50),
        p99_ms=_percentile(latencies, 99),
        sent_late_ms=_percentile(found.late_s * 1000, 99),
        answers=dict(answers),
        blocks=_blocks(found.at_s, in_time, rated, seconds),
    )


def _percentile(values: NDArray[np.float64], q: float) -> float:
    return float(np.percentile(values, q)) if len(values) else 0.0


def _blocks(
    at: NDArray[np.float64],
    in_time: NDArray[np.bool_],
    rated: NDArray[np.float64],
    seconds: float,
) -> tuple[tuple[int, int, float], ...]:
    count = max(1, round(seconds / BLOCK_S))
    block = np.minimum((at / BLOCK_S).astype(int), count - 1)
    return tuple(
        (int((block == n).sum()), int(in_time[block == n].sum()), float(rated[block == n].sum()))
        for n in range(count)
    )
