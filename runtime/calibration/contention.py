"""What calls are worth side by side: rows per second, and how much they slow each other down.

Cores share caches, memory and power: two calls at once, each on a core of its own, take longer than
one. A server under load makes as many at once as its cores hold, so that is what counts there.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scanflow_serve.runtime.calibration.benchmark import Call, Clock, undisturbed

ROUNDS = 3  # alone and together in turn
MIN_CALLS = 2  # of a window, and of each caller


@dataclass(frozen=True, slots=True)
class Window:
    """Calls that were made one after another by each of some callers.

    Attributes:
        took_s: Each call's duration.
        elapsed_s: From the first call's beginning to the last one's end.
    """

    took_s: Sequence[float]
    elapsed_s: float


def measure_window(
    call: Call, callers: int, window_s: float, clock: Clock = time.perf_counter
) -> Window:
    """Return what *callers* that never pause did in *window_s*, or a little longer."""
    with undisturbed():
        if callers == 1:  # on this thread, as latencies are measured
            begun = clock()
            return Window(_calls(call, window_s, clock), clock() - begun)
        together = threading.Barrier(callers)

        def caller() -> tuple[list[float], float, float]:
            together.wait()
            begun = clock()
            return _calls(call, window_s, clock), begun, clock()

        with ThreadPoolExecutor(callers) as pool:
            every = [each.result() for each in [pool.submit(caller) for _ in range(callers)]]
    first, last = min(begun for _, begun, _ in every), max(ended for *_, ended in every)
    return Window([took for calls, *_ in every for took in calls], last - first)


def least_s(call_s: float) -> float:
    """Return what `measure_contention` takes at least where a call alone takes *call_s*."""
    return 2 * ROUNDS * MIN_CALLS * call_s


def measure_contention(
    call: Call, callers: int, window_s: float, clock: Clock = time.perf_counter
) -> float:
    """Return how many times as long a call takes while *callers* make it at once.

    From 1 to *callers*: more than that would be slower than one caller after another. The best
    round of each counts: a neighbour on the host's cores only ever adds, and most to those who
    want all of them.
    """
    if callers == 1:
        return 1.0
    alone, crowded = [], []
    for _ in range(ROUNDS):
        alone.append(measure_window(call, 1, window_s, clock).took_s)
        crowded.append(measure_window(call, callers, window_s, clock).took_s)
    factor = min(map(statistics.median, crowded)) / min(map(statistics.median, alone))
    return min(max(1.0, factor), float(callers))


def _calls(call: Call, window_s: float, clock: Clock) -> list[float]:
    took: list[float] = []
    start = before = clock()
    while before - start < window_s or len(took) < MIN_CALLS:
        call()
        after = clock()
        took.append(after - before)
        before = after
    return took
