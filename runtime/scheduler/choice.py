"""The choice: which option answers the next batch, and how many of the waiting jobs it takes.

The best option by the goal is taken that meets every deadline in the batch and leaves all that
wait behind it feasible on the thriftiest one. If no option leaves that, the one is taken that
spends least of the host on a row: what waits is more than can be had with accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scanflow_serve.runtime.scheduler.cores import Cores
from scanflow_serve.runtime.scheduler.jobs import Goal, Job
from scanflow_serve.runtime.scheduler.lane import Lane, Runner

PROBES = 64  # jobs behind a batch that are looked at


@dataclass(frozen=True, slots=True)
class Pick:
    """What was chosen.

    Attributes:
        index: Of the option in the lane's order.
        count: Of the waiting jobs that could share the call.
        start: When enough cores are free, in s.
    """

    index: int
    count: int
    start: float


def choose(
    lane: Lane,
    goal: Goal,
    mates: Sequence[Job],
    waiting: Iterable[Job],
    cores: Cores,
    now: float,
    margin: float,
) -> Pick | None:
    """Return what answers the first of *mates* and others; None if it can't be met.

    Args:
        mates: Waiting jobs that could share a call, in order; at least one.
        waiting: All that wait, *mates* among them, in order.
        margin: Factor on the time that those behind need.
    """
    order = lane.order(goal)
    first = lane.start(goal, mates[0].rows)
    waiting_rows = sum(job.rows for job in mates)
    thrifty = lane.thrifty(goal)
    call_ms = thrifty.p95_ms(thrifty.call_rows) if thrifty is not None else 0.0
    through = now + cores.busy_ms(now) / 1000
    fallback: Pick | None = None
    least = 0.0
    for index in (*range(first, len(order)), *range(first)):
        runner = order[index]
        start = cores.free_at(runner.threads, now)
        groups = max(1, cores.free // runner.threads)  # idle cores share what waits
        most = min(runner.call_rows, -(-waiting_rows // groups))
        count = takes(runner, mates, start, most)
        if not count:
            continue
        rows = sum(job.rows for job in mates[:count])
        used_ms = runner.p50_ms(rows) * runner.threads / cores.count
        if index >= first and leaves_time(
            waiting, mates[:count], through + used_ms / 1000, call_ms, margin
        ):
            return Pick(index, count, start)
        if fallback is None or used_ms / rows < least:
            fallback, least = Pick(index, count, start), used_ms / rows
    return fallback


def sharing(
    waiting: Iterable[Job], head: Job, goal: Goal, default: Goal, most_rows: int
) -> list[Job]:
    """Return the *waiting* jobs that could share a call with *head*, in order.

    Args:
        goal: Of *head*.
        default: Of jobs that ask for none.
        most_rows: Where they have as many, the rest is left out.
    """
    found: list[Job] = []
    rows = 0
    lane = head.lane
    for job in waiting:
        if job.lane == lane and (job.goal or default) == goal:
            found.append(job)
            rows += job.rows
            if rows >= most_rows:
                break
    return found


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


def leaves_time(
    waiting: Iterable[Job], taken: Sequence[Job], start: float, call_ms: float, margin: float
) -> bool:
    """Return whether every job behind a batch can still be met on the thriftiest option.

    Args:
        waiting: In order; only the first `PROBES` behind the batch are looked at.
        taken: Those of them that the batch takes, in order.
        start: When the host is through with what runs and the batch, all cores together, in s.
        call_ms: What one call takes there. Cost counts on calls that are full; a job with less
            time than such a call takes would force a smaller one, at a higher cost a row, and a
            queue once at that edge would stay there.
    """
    need_s, factor = call_ms * margin / 1000, margin / 1000
    probe = at = 0
    for job in waiting:
        if at < len(taken) and taken[at] is job:
            at += 1
            continue
        need_s += job.cost_ms * factor
        if start + need_s > job.due:
            return False
        probe += 1
        if probe == PROBES:
            break
    return True
