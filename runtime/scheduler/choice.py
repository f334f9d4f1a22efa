"""How many of the waiting jobs one option can answer in one call, and what that leaves the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scanflow_serve.runtime.scheduler.jobs import Job
from scanflow_serve.runtime.scheduler.lane import Runner

PROBES = 64  # jobs behind a batch that are looked at


def takes(runner: Runner, jobs: Sequence[Job], start: float, most_rows: int) -> int:
    """Return how many of the first *jobs* one call can answer, each within its deadline.

    Args:
        jobs: Of one lane, in order; at least one.
        start: When the call can begin, in s; deadlines are already short of what is kept back.
        most_rows: Rows of the call at most; a single job may have more.
    """
    rows, tightest, count = 0, jobs[0].due, 0
    for job in jobs:
        rows += job.rows
        tightest = min(tightest, job.due)
        if (rows > most_rows and count) or start + runner.p95_ms(rows) / 1000 > tightest:
            break
        count += 1
    return count


def leaves_time(behind: Iterable[Job], start: float, call_ms: float, margin: float) -> bool:
    """Return whether every job *behind* a batch can still be met on the fastest option.

    Args:
        behind: In order; only the first `PROBES` are looked at.
        start: When the host is through with what runs and the batch, all cores together, in s.
        call_ms: What one call takes there. Cost counts on calls that are full; a job with less
            time than such a call takes would force a smaller one, at a higher cost a row, and a
            queue once at that edge would stay there.
    """
    need_ms = call_ms
    for probe, job in enumerate(behind):
        if probe == PROBES:
            break
        need_ms += job.cost_ms
        if start + need_ms * margin / 1000 > job.due:
            return False
    return True
