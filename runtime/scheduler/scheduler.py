"""The scheduler: admits, queues, forms batches and chooses who answers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler import refusals
from scanflow_serve.runtime.scheduler.admission import Admission
from scanflow_serve.runtime.scheduler.choice import Choice
from scanflow_serve.runtime.scheduler.cores import Cores
from scanflow_serve.runtime.scheduler.flows import Flows
from scanflow_serve.runtime.scheduler.health import Health
from scanflow_serve.runtime.scheduler.jobs import Batch, Decision, Goal, Job, Option, Reason
from scanflow_serve.runtime.scheduler.journal import Journal
from scanflow_serve.runtime.scheduler.lane import Lane, Runner
from scanflow_serve.runtime.scheduler.lanes import Lanes
from scanflow_serve.runtime.scheduler.queue import Queue
from scanflow_serve.runtime.scheduler.rates import Rate, Window
from scanflow_serve.runtime.scheduler.retries import retries
from scanflow_serve.runtime.scheduler.tuning import Tuning

RESERVE_SHARE = 0.1  # of a deadline that is kept back at most


class Scheduler:
    """One server's queue, options and decisions; driven by one thread.

    Args:
        cores: Calls' threads that may be busy at the same time.
        max_queue: Jobs that may wait.
        max_batch: Rows of one call.
        deadline_s: Of requests that name none.
        notify: Called with each decision.
        now: The caller's clock, in s; every method that takes *now* goes by it, and it never
            goes back.

    Attributes:
        journal: What was decided.
        dropped: Jobs refused after they were admitted, with the refusal; the caller takes them.
        traffic: Requests per second.
        latency: Of answered requests, from arrival.
    """

    def __init__(
        self,
        *,
        cores: int,
        max_queue: int,
        max_batch: int,
        deadline_s: float,
        notify: Callable[[Decision], None] | None = None,
        tuning: Tuning | None = None,
        now: float = 0.0,
    ) -> None:
        self.tuning = tuning or Tuning()
        self.max_queue = max_queue
        self.max_batch = max_batch
        self.journal = Journal(notify)
        self.dropped: list[tuple[Job, RequestError]] = []
        self.traffic = Rate(now, self.tuning.fast_s, self.tuning.slow_s)
        self.latency = Window()
        self._reserve_s = self.tuning.reserve_ms / 1000
        self._cores = Cores(cores)
        self._queue = Queue()
        self._flows = Flows(now)
        self._admission = Admission(self._queue, self._cores, self._flows, max_queue)
        self._choice = Choice(
            self._queue,
            self._cores,
            self.traffic,
            max_queue=max_queue,
            max_batch=max_batch,
            margin=self.tuning.margin,
            in_hand=self.tuning.in_hand,
            inline_ms=self.tuning.inline_ms,
        )
        self._lanes = Lanes(self._cores.count, deadline_s, self.tuning, self.journal)

    # What is there -----------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Return how many jobs wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Return how many batches run."""
        return len(self._cores)

    @property
    def idle(self) -> bool:
        """Return whether nothing waits and nothing runs."""
        return not self._queue and not self._cores

    @property
    def goal(self) -> Goal:
        """Return what requests are answered by that ask for nothing themselves."""
        return self._lanes.goal

    def lanes(self) -> tuple[str, ...]:
        """Return the lanes' names."""
        return tuple(self._lanes.by_name)

    def lane(self, name: str) -> Lane:
        """Return a lane, to look at."""
        return self._lanes.by_name[name]

    def health(self, variant: str) -> Health:
        """Return how a variant does, to look at."""
        return self._lanes.rotation.health[variant]

    # What may answer ---------------------------------------------------------------------------

    def carry(
        self, lane: str, options: Sequence[Option], now: float, *, reason: Reason, why: str
    ) -> None:
        """Answer the requests of *lane* by *options* from now on; none: the lane is closed.

        Batches that run go on. Waiting jobs of a closed lane are dropped (503).
        """
        if not options:
            for job in [job for job in self._queue if job.lane == lane]:
                self._drop(job, refusals.unloaded(lane))
        self._lanes.carry(lane, options, now, reason, why)

    def bound(
        self,
        now: float,
        *,
        goal: Goal | None,
        only: Callable[[Option], bool] | None,
        firm: bool = True,
        reason: Reason,
        why: str,
    ) -> None:
        """Bound all choices from now on: what a rule prefers or uses, or an operator pins.

        Args:
            goal: For requests that ask for nothing themselves; None: the objective.
            only: Which options may answer; lanes where none may are not bound.
            firm: *only* binds requests too that ask for something themselves: a pin, not a rule.
        """
        self._lanes.bound(goal or "objective", only, firm, now, reason, why)

    # Requests ----------------------------------------------------------------------------------

    def turn_away(self, job: Job, now: float) -> None:
        """Do nothing if *job* may be admitted; it is the least that its request can come to.

        For requests that are not read yet, while others wait: to refuse costs less than to read.

        Raises:
            RequestError: What `submit` would say to *job*, which is counted as having come.
        """
        lane = self._lanes.by_name.get(job.lane)
        if lane is None:
            return
        slack_s = job.due - job.arrived
        job.due -= self._kept_back_s(slack_s)
        goal = job.goal or self._lanes.goal
        left_ms = (job.due - now) * 1000 - lane.least_ms(goal, job.rows)
        straight = not self._queue and self._cores.free > 0
        if left_ms >= (0.0 if straight else self._cores.busy_ms(now) + self._queue.cost_ms):
            return
        try:
            self._admission.admit(lane, goal, job, now)
        except RequestError:
            self.traffic.add(1)
            lane.arrive(lane.usual_rows, slack_s)
            raise

    def submit(self, job: Job, now: float) -> Batch | None:
        """Admit *job*; return the batch that may start at once, None if all must wait.

        `Job.due` becomes earlier by what is kept back for writing the answer.

        Raises:
            RequestError: 503, the queue is full, or a fairer share has none left for the client;
                504, the deadline can't be met. The job is not in the queue then, and nothing
                else has changed.
        """
        lane = self._arrive(job)
        if not self._queue and self._cores.free > 0:
            batch = self._straight(lane, job, now)
            if batch is not None:
                return batch
        self._enqueue(lane, job, now)
        return self.next(now)

    def hold(self, job: Job, now: float) -> None:
        """Admit *job* and let it wait, although cores may be idle: the caller asks `next` later.

        What arrives in one go, faster than it can be looked at, is to be one batch.

        Raises:
            RequestError: As `submit`.
        """
        self._enqueue(self._arrive(job), job, now)

    def next(self, now: float) -> Batch | None:
        """Return the next batch that may start, None if nothing waits or all cores are busy."""
        while self._queue and self._cores.free > 0:
            job = self._queue.head
            lane = self._lanes.by_name[job.lane]
            goal = job.goal or self._lanes.goal
            pick = self._choice.pick(lane, goal, self._lanes.goal, now)
            if pick is None:
                self._drop(job, refusals.late(job, 0.0, lane.least_ms(goal, job.rows), now))
                continue
            if pick.start > now:
                return None  # worth waiting for cores, which stay free for it meanwhile
            self._queue.take(pick.jobs)
            return self._batch(lane, goal, pick.index, pick.jobs, now)
        return None

    def cancel(self, job: Job) -> bool:
        """Take *job* out of the queue; return whether it was still there."""
        found = self._queue.remove(job)
        if found:
            self._flows.take_back(job)
        return found

    def done(self, batch: Batch, now: float, took_ms: float) -> None:
        """Count *batch* as answered, after *took_ms* of inference."""
        self._cores.end(batch)
        for job in batch.jobs:
            self.latency.add(now, (now - job.arrived) * 1000)
        self._lanes.rotation.succeeded(batch, now, took_ms)

    def failed(self, batch: Batch, now: float, why: str) -> list[Batch]:
        """Return what is to be tried instead of *batch*; nothing if its jobs have failed.

        Args:
            why: One sentence, for the decision.
        """
        self._cores.end(batch)
        lane = self._lanes.by_name.get(batch.lane)
        others = [
            runner  # a pin does not turn a failure into an error: all that are loaded count
            for runner in (lane.runners if lane is not None else ())
            if runner.health.closed and runner.option.id != batch.option.id
        ]
        self._lanes.rotation.failed(batch, now, why, others=bool(others))
        own = Runner(batch.option, self.health(batch.option.variant), self._cores.count)
        again = retries(batch, own, others, now, why)
        for attempt in again:
            self._cores.start(attempt)
        return again

    def suspend(self, variant: str, now: float, why: str, earlier: int = 0) -> None:
        """Take *variant* out of rotation, as if it had failed: it took a whole process down.

        Args:
            earlier: How often it did so before; the pause doubles each time.
        """
        self._lanes.rotation.suspend(variant, now, why, earlier)

    def tick(self, now: float) -> None:
        """Bring rates, ratios, mixes and rotation up to date; refuse what has become hopeless."""
        self.traffic.tick(now)
        self._flows.tick(now)
        self._lanes.tick(now)
        for job in [job for job in self._queue if job.due <= now]:
            lane = self._lanes.by_name[job.lane]
            least_ms = lane.least_ms(job.goal or self._lanes.goal, job.rows)
            self._drop(job, refusals.late(job, 0.0, least_ms, now))

    # How -----------------------------------------------------------------------------------------

    def _arrive(self, job: Job) -> Lane:
        """Count *job*, and keep back from its deadline what writing the answer takes."""
        lane = self._lanes.by_name.get(job.lane)
        if lane is None:
            raise refusals.unloaded(job.lane)
        self.traffic.add(1)
        slack_s = job.due - job.arrived
        lane.arrive(job.rows, slack_s)
        job.due -= self._kept_back_s(slack_s)
        return lane

    def _kept_back_s(self, slack_s: float) -> float:
        return min(self._reserve_s, RESERVE_SHARE * slack_s)

    def _enqueue(self, lane: Lane, job: Job, now: float) -> None:
        for victim in self._admission.admit(lane, job.goal or self._lanes.goal, job, now):
            self._drop(victim, refusals.gave_way(self._queue.cost_ms))
        self._flows.grant(job)
        self._queue.add(job)

    def _straight(self, lane: Lane, job: Job, now: float) -> Batch | None:
        """Return a batch of *job* alone, for an empty queue; None if no idle option meets it."""
        goal = job.goal or self._lanes.goal
        order = lane.order(goal)
        left_ms = (job.due - now) * 1000
        for index in range(lane.start(goal, job.rows), len(order)):
            runner = order[index]
            if runner.p95_ms(job.rows) <= left_ms:
                if runner.threads > self._cores.free:
                    return None  # it may be worth waiting for
                job.cost_ms = runner.row_cost_ms * job.rows
                self._flows.grant(job)
                return self._batch(lane, goal, index, [job], now)
        return None

    def _batch(self, lane: Lane, goal: Goal, index: int, jobs: list[Job], now: float) -> Batch:
        """Return a batch of *jobs*, begun on the option at *index* of the lane's order."""
        runner = lane.order(goal)[index]
        rows = jobs[0].rows if len(jobs) == 1 else sum(job.rows for job in jobs)
        if runner.option is not lane.last:
            strayed = index != lane.start(goal, jobs[0].rows)
            self.journal.switched(lane, runner, jobs[0], strayed, self.queued, now)
        lane.took(goal, index, rows)
        pace = self._cores.pace(runner.option)
        batch = Batch(lane.name, runner.option, jobs, rows, now, runner.p50_ms(rows) * pace, pace)
        if not runner.health.closed:
            batch.trial = runner.health.trying = True
            self._lanes.plan(now)
        self._cores.start(batch)
        return batch

    def _drop(self, job: Job, refusal: RequestError) -> None:
        self._queue.remove(job)
        self._flows.take_back(job)
        self.dropped.append((job, refusal))
