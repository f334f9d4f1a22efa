"""What the scheduler itself costs: processor time of its calls, without clocks, threads or models.

    python benchmarks/scheduler_cost.py

Straight: `submit` and `done` of one request while the server idles. Full queue: `next` behind 256
waiting requests of mixed deadlines, and the admission of one more amid them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from scanflow_serve.runtime.measurements import Latency
from scanflow_serve.runtime.scheduler.curve import Curve
from scanflow_serve.runtime.scheduler.jobs import Job, Option
from scanflow_serve.runtime.scheduler.scheduler import Scheduler

MAX_BATCH, MAX_QUEUE, ROUNDS = 32, 256, 30


def option(name: str, accuracy: float, call_ms: float, row_ms: float) -> Option:
    """Return an option whose calls take *call_ms* and *row_ms* for each row."""
    sizes = {rows: call_ms + row_ms * rows for rows in (1, 2, 4, 8, 16, 32)}
    curve = Curve({rows: Latency(ms, ms * 1.2, 50) for rows, ms in sizes.items()}, MAX_BATCH)
    quick = -sizes[1]
    worth = {"objective": accuracy, "accuracy": accuracy, "latency": quick, "balanced": quick}
    return Option(name, name, (name,), curve, 1, accuracy, worth)  # type: ignore[arg-type]


def scheduler() -> Scheduler:
    """Return one with four options, on two cores."""
    core = Scheduler(cores=2, max_queue=MAX_QUEUE, max_batch=MAX_BATCH, deadline_s=2.0)
    family = (("xl", 0.993, 4, 16), ("l", 0.98, 3, 8), ("m", 0.96, 2, 4), ("s", 0.92, 1, 1.5))
    carried = [option(*figures) for figures in family]
    core.carry("lane", carried, 0.0, reason="start", why="loaded")
    return core


def request(number: int, at: float = 0.0) -> Job:
    """Return one of five clients' requests, with one of eleven deadlines."""
    return Job("lane", 1, at, at + 2.0 + number * 37 % 11 / 10, client=f"client-{number % 5}")


def timed_us(call: Callable[[], object]) -> float:
    """Return the processor time of *call*, in us."""
    begun = time.process_time_ns()
    call()
    return (time.process_time_ns() - begun) / 1000


def straight(requests: int = 2000) -> float:
    """Return the cost of one request that waits for nothing, in us."""
    core = scheduler()
    jobs = [request(number, number / 10) for number in range(requests)]

    def serve() -> None:
        for job in jobs:
            batch = core.submit(job, job.arrived)
            if batch is not None:
                core.done(batch, job.arrived + 0.02, 20.0)

    return timed_us(serve) / requests


def full() -> Scheduler:
    """Return a scheduler with busy cores and one place left in its queue."""
    core = scheduler()
    for number in range(MAX_QUEUE + 1):
        core.submit(request(number), 0.0)
    return core


def next_behind_full_queue() -> float:
    """Return the cost of `next` when a core falls idle, in us."""
    core = scheduler()
    running = core.submit(request(0), 0.0)
    for number in range(1, MAX_QUEUE + 2):
        core.submit(request(number), 0.0)
    if running is None:
        raise SystemExit("the first request of an idle server must start at once")
    core.done(running, 0.02, 20.0)
    return timed_us(lambda: core.next(0.02))


def admission_amid_full_queue() -> float:
    """Return the cost of `submit` into the midst of what waits, in us."""
    core, job = full(), request(4)
    return timed_us(lambda: core.submit(job, 0.0))


def main() -> None:
    """Print the median of several rounds of each."""
    for name, figure in (
        ("submit + done, straight", straight),
        ("next, 256 waiting", next_behind_full_queue),
        ("submit, 255 waiting", admission_amid_full_queue),
    ):
        rounds = [figure() for _ in range(ROUNDS)]
        print(f"{name:<24} {statistics.median(rounds):7.1f} us")


if __name__ == "__main__":
    main()
