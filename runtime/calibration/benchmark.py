"""How fast something is: latency at every batch size, of one call at a time."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scanflow_serve.runtime.measurements import Latency

Call: TypeAlias = Callable[[], object]
Clock: TypeAlias = Callable[[], float]  # seconds

WARM_UP = 3  # calls; the first ones allocate, and may compile for the shape
ROUNDS = 3  # each visits all batch sizes, so that a disturbance does not hit only one of them
MIN_SAMPLES = 2  # of one round
MAX_SAMPLES = 5_000  # of one round; more would not move a p95


@dataclass(frozen=True, slots=True)
class Effort:
    """How long measuring one candidate may take.

    Attributes:
        slice_s: Wanted time for all latencies together.
        limit_s: A batch size whose few calls alone would take a share of more than this is left
            out, and so are all larger ones.
        give_up_ms: So is one whose single call takes longer than this.
        window_s: For the sustained throughput.
    """

    slice_s: float
    limit_s: float
    give_up_ms: float
    window_s: float


def batch_sizes(max_batch: int) -> tuple[int, ...]:
    """Return 1, 2, 4, … and *max_batch* itself.

    >>> batch_sizes(12)
    (1, 2, 4, 8, 12)
    """
    powers = [1 << n for n in range(max_batch.bit_length()) if 1 << n < max_batch]
    return (*powers, max_batch)


def measure_latency(
    calls: Mapping[int, Call], effort: Effort, clock: Clock = time.perf_counter
) -> dict[int, Latency]:
    """Return the latency at each batch size of *calls* that is worth measuring.

    p50 and p95 are taken in each of a few rounds, and the median over the rounds is reported: a
    neighbour that disturbs one round does not move it.

    Args:
        calls: Batch size -> a call with that many rows; the smallest is always measured.
    """
    with undisturbed():
        batches = _worthwhile(calls, effort, clock)
        share_s = effort.slice_s / (ROUNDS * len(batches))
        rounds: dict[int, list[Sequence[float]]] = {batch: [] for batch in batches}
        for _ in range(ROUNDS):
            for batch in batches:
                rounds[batch].append(_samples(calls[batch], share_s, clock))
    return {batch: _latency(samples) for batch, samples in rounds.items()}


def best_batch(latency: Mapping[int, Latency]) -> int:
    """Return the batch size of the most rows per second; the smaller one of equals."""
    return max(sorted(latency), key=lambda batch: batch / latency[batch].p50_ms)


def _worthwhile(calls: Mapping[int, Call], effort: Effort, clock: Clock) -> list[int]:
    worth: list[int] = []
    share_s = effort.limit_s / len(calls)
    for batch in sorted(calls):
        for _ in range(WARM_UP):
            start = clock()
            calls[batch]()
            took_s = clock() - start
            if took_s * MIN_SAMPLES * ROUNDS > share_s:
                break
        too_slow = took_s * 1e3 > effort.give_up_ms or took_s * MIN_SAMPLES * ROUNDS > share_s
        if worth and too_slow:
            break
        worth.append(batch)
        if too_slow:
            break
    return worth


def _samples(call: Call, share_s: float, clock: Clock) -> list[float]:
    """Return the durations, in ms, of the calls that fit into *share_s*."""
    samples: list[float] = []
    start = before = clock()
    while (before - start < share_s or len(samples) < MIN_SAMPLES) and len(samples) < MAX_SAMPLES:
        call()
        after = clock()
        samples.append((after - before) * 1e3)
        before = after
    return samples


def _latency(rounds: Sequence[Sequence[float]]) -> Latency:
    quantiles = [np.percentile(samples, (50, 95)) for samples in rounds]
    return Latency(
        p50_ms=float(statistics.median(float(p50) for p50, _ in quantiles)),
        p95_ms=float(statistics.median(float(p95) for _, p95 in quantiles)),
        samples=sum(map(len, rounds)),
    )


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the cyclic garbage collector out of the timings: the server tames it too."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
