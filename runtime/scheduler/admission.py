"""Admission: who is refused at once, and whose waiting jobs give way to a fairer share."""

from __future__ import annotations

from scanflow_serve.runtime.scheduler import refusals
from scanflow_serve.runtime.scheduler.cores import Cores
from scanflow_serve.runtime.scheduler.jobs import Goal, Job
from scanflow_serve.runtime.scheduler.lane import Lane
from scanflow_serve.runtime.scheduler.queue import Queue


class Admission:
    """What may join the queue.

    A flow is what one client has waiting in one lane. Where not all can be met, it is the flow
    with most waiting that loses: dropping from the longest queue shares a server fairly without
    asking anybody for weights. Priority and deadline order the queue; neither takes another
    client's share.

    Source:
        Suter et al. (1999), Buffer management schemes for supporting TCP in gigabit routers:
        longest queue drop.
    """

    def __init__(self, queue: Queue, cores: Cores, max_queue: int) -> None:
        self._queue = queue
        self._cores = cores
        self._max_queue = max_queue

    def admit(self, lane: Lane, goal: Goal, job: Job, now: float) -> list[Job]:
        """Return the waiting jobs that give way to *job*; set what it costs.

        Raises:
            RequestError: 503, the queue is full, or the job's client has its share waiting; 504,
                the deadline can't be met.
        """
        thrifty = lane.thrifty(goal)
        if thrifty is None:
            raise refusals.unloaded(lane.name)
        queue = self._queue
        job.cost_ms = thrifty.row_cost_ms * job.rows
        position = queue.position(job)
        wait_ms = self._cores.busy_ms(now) + queue.cost_before(position)
        own_ms = lane.least_ms(goal, job.rows)
        if position:  # it will share a call with those before it
            own_ms = max(own_ms, thrifty.p95_ms(max(job.rows, thrifty.call_rows)))
        over_ms = wait_ms + own_ms - (job.due - now) * 1000
        victims: list[Job] = []
        if over_ms > 0:
            victims = self._victims(job, position, over_ms)
            if not victims:
                raise refusals.late(job, wait_ms, own_ms, now)
        elif position < len(queue):
            victims = self._protected(job, position, wait_ms, now)
        if not victims and len(queue) >= self._max_queue:
            victims = self._victims(job, len(queue), 0.0)
            if not victims:
                raise refusals.full(self._max_queue, queue.cost_ms)
        return victims

    def _victims(self, job: Job, before: int, least_ms: float) -> list[Job]:
        """Return waiting jobs that *job* has a better right than; nothing if they don't suffice.

        They are the last of the flow that has most waiting, as long as it keeps no less than the
        flow of *job* then has.

        Args:
            before: Only these first jobs of the queue.
            least_ms: How much they must cost together; one job at least.
        """
        if not self._queue:
            return []
        flow, left_ms = self._queue.dearest_flow()
        share_ms = self._queue.flow_cost(job) + job.cost_ms
        found: list[Job] = []
        gained_ms = 0.0
        for victim in self._queue.latest_of(flow, before):
            left_ms -= victim.cost_ms
            if left_ms < share_ms:
                return []
            found.append(victim)
            gained_ms += victim.cost_ms
            if gained_ms >= least_ms:
                return found
        return []

    def _protected(self, job: Job, position: int, wait_ms: float, now: float) -> list[Job]:
        """Return who gives way, so that no smaller flow behind *job* loses what it was promised.

        Raises:
            RequestError: 503, it is *job* that has to.
        """
        queue = self._queue
        if queue.only_flow_of(job):
            return []
        share_ms = queue.flow_cost(job) + job.cost_ms
        done_ms = wait_ms
        for index, behind in enumerate(queue.from_position(position), start=position):
            done_ms += behind.cost_ms
            spare_ms = (behind.due - now) * 1000 - done_ms
            if 0 <= spare_ms < job.cost_ms and queue.flow_cost(behind) < share_ms:
                victims = self._victims(job, index, job.cost_ms - spare_ms)
                if not victims:
                    raise refusals.gave_way(queue.cost_ms)
                return victims
        return []
