"""The choice: which option answers the next batch, and how many of the waiting jobs it takes.

The best option by the goal is taken that meets every deadline in the batch, leaves all that wait
behind it feasible on the thriftiest one, and ends before those to come fill the queue. If no option
does, the one is taken that spends least of the host on a row: what waits is more than can be had
with accuracy.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from scanflow_serve.runtime.scheduler.cores import Cores
from scanflow_serve.runtime.scheduler.jobs import Goal, Job
from scanflow_serve.runtime.scheduler.lane import Lane, Runner
from scanflow_serve.runtime.scheduler.queue import Queue
from scanflow_serve.runtime.scheduler.rates import Rate

PROBES = 256  # jobs behind a batch that are looked at
ROOM = 0.8  # of the places in the queue that may be taken before accuracy is given up for room


@dataclass(frozen=True, slots=True)
class Pick:
    """What was chosen.

    Attributes:
        index: Of the option in the lane's order.
        jobs: Waiting jobs that share the call, in order.
        start: When enough cores are free, in s.
    """

    index: int
    jobs: list[Job]
    start: float


class Choice:
    """Chooses what answers the head of the queue.

    Args:
        queue: What waits.
        cores: What runs.
        traffic: Requests per second.
        max_queue: Jobs that may wait.
        max_batch: Rows of one call.
        margin: Factor on the time that those behind a batch need.
        in_hand: Share of a deadline that must be left to them, if a call takes less.
        inline_ms: What a call takes that is not worth sharing between idle cores.
    """

    def __init__(
        self,
        queue: Queue,
        cores: Cores,
        traffic: Rate,
        *,
        max_queue: int,
        max_batch: int,
        margin: float,
        in_hand: float,
        inline_ms: float,
    ) -> None:
        self._queue = queue
        self._cores = cores
        self._traffic = traffic
        self._places = ROOM * max_queue
        self._max_batch = max_batch
        self._margin = margin
        self._in_hand = in_hand
        self._inline_ms = inline_ms

    def pick(self, lane: Lane, goal: Goal, default: Goal, now: float) -> Pick | None:
        """Return what answers the head of the queue, and with whom; None if it can't be met.

        Args:
            lane: Of the head.
            goal: Of the head.
            default: Of jobs that ask for none.
        """
        cores = self._cores
        most_rows = self._max_batch * cores.free  # idle cores share what waits
        mates = sharing(self._queue, self._queue.head, goal, default, most_rows)
        order = lane.order(goal)
        first = lane.start(goal, mates[0].rows)
        sizes = list(accumulate(job.rows for job in mates))
        tightest = list(accumulate((job.due for job in mates), min))
        fallback: Pick | None = None
        least = 0.0
        for index in (*range(first, len(order)), *range(first)):
            runner = order[index]
            start = cores.free_at(runner.threads, now)
            most = min(runner.call_rows, sizes[-1])
            if runner.p95_ms(most) > self._inline_ms:
                groups = max(1, cores.free // runner.threads)
                most = min(most, -(-sizes[-1] // groups))
            count = takes(runner, sizes, tightest, start, most)
            if not count:
                continue
            call_ms = runner.p50_ms(sizes[count - 1])
            pick = Pick(index, mates[:count], start)
            if index >= first and self._leaves_enough(lane, goal, pick, runner, call_ms, now):
                return pick
            cost = call_ms * runner.threads / sizes[count - 1]
            if fallback is None or cost < least:
                fallback, least = pick, cost
        return fallback

    def _leaves_enough(
        self, lane: Lane, goal: Goal, pick: Pick, runner: Runner, call_ms: float, now: float
    ) -> bool:
        """Return whether those behind have enough time, and those to come a place to wait."""
        cores = self._cores
        behind = len(self._queue) - len(pick.jobs)
        turn_ms = cores.turn_ms(runner.threads, call_ms, now)
        if behind + self._traffic.current(now) * turn_ms / 1000 > self._places:
            return False
        thrifty = lane.thrifty(goal)
        if not behind or thrifty is None:
            return True
        used_ms = call_ms * runner.threads / cores.count
        through = now + (cores.busy_ms(now) + used_ms) / 1000
        in_hand_ms = self._in_hand * lane.slack_s * 1000
        least_ms = max(thrifty.p95_ms(thrifty.call_rows), in_hand_ms)
        return leaves_time(self._queue, pick.jobs, through, least_ms, self._margin)


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


def takes(
    runner: Runner, sizes: Sequence[int], tightest: Sequence[float], start: float, most_rows: int
) -> int:
    """Return how many of the first jobs one call can answer, each within its deadline.

    Args:
        sizes: Rows of the first job, of the first two, and so on; at least one.
        tightest: The earliest deadline among as many.
        start: When the call can begin, in s; deadlines are already short of what is kept back.
        most_rows: Rows of the call at most; a single job may have more.
    """
    few, many = 0, max(1, bisect_right(sizes, most_rows))
    while few < many:  # a longer call fits no better
        count = (few + many + 1) // 2
        if start + runner.p95_ms(sizes[count - 1]) / 1000 <= tightest[count - 1]:
            few = count
        else:
            many = count - 1
    return few


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
    factor = margin / 1000
    through = start + call_ms * factor
    rest = iter(taken)
    skipped = next(rest, None)
    for job in islice(waiting, PROBES + len(taken)):
        if job is skipped:
            skipped = next(rest, None)
            continue
        through += job.cost_ms * factor
        if through > job.due:
            return False
    return True
