"""The scheduler: admits, queues, forms batches and chooses who answers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler import refusals
from scanflow_serve.runtime.scheduler.choice import leaves_time, takes
from scanflow_serve.runtime.scheduler.cores import Cores
from scanflow_serve.runtime.scheduler.health import Health
from scanflow_serve.runtime.scheduler.jobs import Batch, Decision, Goal, Job, Option, Reason
from scanflow_serve.runtime.scheduler.journal import Journal
from scanflow_serve.runtime.scheduler.lane import Lane, Runner
from scanflow_serve.runtime.scheduler.queue import Queue
from scanflow_serve.runtime.scheduler.rates import Rate, Window
from scanflow_serve.runtime.scheduler.tuning import Tuning

ALONE = 3  # the attempt at which each job of a batch is tried by itself
SLACK_WEIGHT = 0.02  # of one request in the mean of what requests have left when they arrive


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
        self._deadline_s = deadline_s
        self._cores = Cores(cores)
        self._queue = Queue()
        self._lanes: dict[str, Lane] = {}
        self._health: dict[str, Health] = {}
        self._goal: Goal = "objective"
        self._only: Callable[[Option], bool] | None = None
        self._firm = True

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

    def lanes(self) -> tuple[str, ...]:
        """Return the lanes' names."""
        return tuple(self._lanes)

    def lane(self, name: str) -> Lane:
        """Return a lane, to look at."""
        return self._lanes[name]

    def health(self, variant: str) -> Health:
        """Return how a variant does, to look at."""
        return self._health[variant]

    # What may answer ---------------------------------------------------------------------------

    def carry(
        self, lane: str, options: Sequence[Option], now: float, *, reason: Reason, why: str
    ) -> None:
        """Answer the requests of *lane* by *options* from now on; none: the lane is closed.

        Batches that run go on. Waiting jobs of a closed lane are dropped (503).
        """
        known = self._lanes.get(lane)
        if not options:
            if known is not None:
                del self._lanes[lane]
                for job in [job for job in self._queue if job.lane == lane]:
                    self._drop(job, refusals.unloaded(lane))
            return
        if known is None:
            known = Lane(lane, self._cores.count, self._deadline_s, self.tuning, now)
            known.restrict(self._only, None if self._firm else self._goal)
            self._lanes[lane] = known
        for option in options:
            self._health.setdefault(option.variant, Health())
        known.carry(options, self._health)
        known.refresh(now)
        known.plan(known.rate.cautious)
        self._decide(known, reason, now, why)

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
        self._goal = goal or "objective"
        self._only, self._firm = only, firm
        for lane in self._lanes.values():
            lane.restrict(only, None if firm else self._goal)
            lane.refresh(now)
            lane.plan(lane.rate.cautious)
            self._decide(lane, reason, now, why)

    # Requests ----------------------------------------------------------------------------------

    def submit(self, job: Job, now: float) -> Batch | None:
        """Admit *job*; return the batch that may start at once, None if all must wait.

        Raises:
            RequestError: 503, the queue is full; 504, the deadline can't be met. The job is not
                in the queue, and nothing else was done, but that other clients' jobs may have
                given way to an earlier one; see `dropped`.
        """
        lane = self._arrive(job)
        if not self._queue and self._cores.free > 0:
            batch = self._straight(lane, job, now)
            if batch is not None:
                return batch
        self._admit(lane, job, now)
        self._queue.add(job)
        return self.next(now)

    def hold(self, job: Job, now: float) -> None:
        """Admit *job* and let it wait, although cores may be idle: the caller asks `next` later.

        What arrives in one go, faster than it can be looked at, is to be one batch.

        Raises:
            RequestError: As `submit`.
        """
        self._admit(self._arrive(job), job, now)
        self._queue.add(job)

    def next(self, now: float) -> Batch | None:
        """Return the next batch that may start, None if nothing waits or all cores are busy."""
        while self._queue and self._cores.free > 0:
            job = self._queue.head
            lane = self._lanes[job.lane]
            goal = job.goal or self._goal
            mates = self._mates(job, goal)
            found = self._choose(lane, goal, mates, now)
            if found is not None:
                index, count, start = found
                if start > now:
                    return None  # worth waiting for cores, which stay free for it meanwhile
                return self._batch(lane, goal, index, mates[:count], now)
            self._drop(job, refusals.late(job, 0.0, self._least_ms(lane, job.rows), now))
        return None

    def cancel(self, job: Job) -> bool:
        """Take *job* out of the queue; return whether it was still there."""
        return self._queue.remove(job)

    def done(self, batch: Batch, now: float, took_ms: float) -> None:
        """Count *batch* as answered, after *took_ms* of inference."""
        self._cores.end(batch)
        health = self._health[batch.option.variant]
        health.observe(took_ms, batch.option.curve.p50_ms(batch.rows), now)
        health.failures = 0
        for job in batch.jobs:
            self.latency.add(now, (now - job.arrived) * 1000)
        if not health.closed:
            health.close()
            self._rotated("recovery", now, f"{batch.option.variant} answers again", {})
        if batch.failed is not None:  # the same rows went well elsewhere: it was the variant
            self._take_out(batch.failed.variant, now, batch.why)

    def failed(self, batch: Batch, now: float, why: str) -> list[Batch]:
        """Return what is to be tried instead of *batch*; nothing if its jobs have failed.

        The next option gets the batch once. If it fails too, one of the jobs may be to blame:
        each is tried by itself, once.

        Args:
            why: One sentence, for the decision.
        """
        self._cores.end(batch)
        health = self._health[batch.option.variant]
        health.failures += 1
        others = self._others(batch)
        if not health.closed or (health.failures >= self.tuning.failures and others):
            self._take_out(batch.option.variant, now, why)
        if batch.attempt == 1 and others:
            runner = min(others, key=lambda runner: runner.p95_ms(batch.rows))
            again = self._again(batch, runner, batch.jobs, now, failed=batch.option)
            again.why = why
            return [again]
        if batch.attempt < ALONE and len(batch.jobs) > 1:
            runner = Runner(batch.option, health, self._cores.count)
            return [self._again(batch, runner, [job], now) for job in batch.jobs]
        return []

    def suspend(self, variant: str, now: float, why: str, earlier: int = 0) -> None:
        """Take *variant* out of rotation, as if it had failed: it took a whole process down.

        Args:
            earlier: How often it did so before; the pause doubles each time.
        """
        health = self._health.setdefault(variant, Health())
        health.opened = max(health.opened, earlier)
        health.failures += 1
        self._take_out(variant, now, why)

    def tick(self, now: float) -> None:
        """Bring rates, ratios, mixes and rotation up to date; refuse what has become hopeless."""
        self.traffic.tick(now)
        seen = [health for health in self._health.values() if now - health.seen < 1.0]
        if seen:
            host = sum(health.ratio for health in seen) / len(seen)
            for health in self._health.values():
                health.drift(host, now)
        for lane in self._lanes.values():
            lane.rate.tick(now)
            lane.refresh(now)
            if lane.plan(lane.rate.cautious):
                rate = lane.rate.cautious
                self._decide(lane, "rate", now, f"{rate:.3g} rows/s", {"rows_per_s": rate})
        for job in [job for job in self._queue if job.due <= now]:
            lane = self._lanes[job.lane]
            self._drop(job, refusals.late(job, 0.0, self._least_ms(lane, job.rows), now))

    # How -----------------------------------------------------------------------------------------

    def _arrive(self, job: Job) -> Lane:
        """Count *job*, and keep back from its deadline what writing the answer takes."""
        lane = self._lanes[job.lane]
        self.traffic.add(1)
        lane.rate.add(job.rows)
        lane.slack_s += SLACK_WEIGHT * (job.due - job.arrived - lane.slack_s)
        job.due -= self.tuning.reserve_ms / 1000
        return lane

    def _straight(self, lane: Lane, job: Job, now: float) -> Batch | None:
        """Return a batch of *job* alone, for an empty queue; None if no idle option meets it."""
        goal = job.goal or self._goal
        order = lane.order(goal)
        left_ms = (job.due - now) * 1000
        for index in range(lane.start(goal, job.rows), len(order)):
            runner = order[index]
            if runner.threads <= self._cores.free and runner.p95_ms(job.rows) <= left_ms:
                return self._batch(lane, goal, index, [job], now)
        return None

    def _admit(self, lane: Lane, job: Job, now: float) -> None:
        """Refuse *job* if it can't be met, or find it a place."""
        thrifty = lane.thrifty
        if thrifty is None:
            raise refusals.unloaded(lane.name)
        job.cost_ms = lane.row_cost(thrifty) * job.rows
        if len(self._queue) >= self.max_queue:
            victim = self._victims(job, len(self._queue), least_ms=0.0)
            if not victim:
                raise refusals.full(self.max_queue, self._queue.cost_ms)
            self._give_way(victim)
        position = self._queue.position(job)
        wait_ms = self._cores.busy_ms(now) + self._queue.cost_before(position)
        own_ms = self._least_ms(lane, job.rows)
        if position:  # it will share a call with those before it
            own_ms = max(own_ms, thrifty.p95_ms(max(job.rows, lane.call_rows(thrifty))))
        over_ms = wait_ms + own_ms - (job.due - now) * 1000
        if over_ms > 0:
            victims = self._victims(job, position, least_ms=over_ms)
            if not victims:
                raise refusals.late(job, wait_ms, own_ms, now)
            self._give_way(victims)

    def _victims(self, job: Job, before: int, least_ms: float) -> list[Job]:
        """Return waiting jobs that *job* has a better right than; nothing if they don't suffice.

        They are the last of the flow that has most waiting, as long as it keeps more than the
        flow of *job*: dropping from the longest queue shares a server fairly without asking
        anybody for weights.

        Args:
            before: Only these first jobs of the queue.
            least_ms: How much they must cost together; one job at least.

        Source:
            Suter et al. (1999), Buffer management schemes for supporting TCP in gigabit routers:
            longest queue drop.
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

    def _give_way(self, victims: Sequence[Job]) -> None:
        for victim in victims:
            self._drop(victim, refusals.gave_way(self._queue.cost_ms))

    def _drop(self, job: Job, refusal: RequestError) -> None:
        self._queue.remove(job)
        self.dropped.append((job, refusal))

    def _mates(self, head: Job, goal: Goal) -> list[Job]:
        """Return the waiting jobs that could share a call with *head*, in order."""
        found: list[Job] = []
        rows = 0
        for job in self._queue:
            if job.lane == head.lane and (job.goal or self._goal) == goal:
                found.append(job)
                rows += job.rows
                if rows >= self.max_batch * self._cores.count:
                    break
        return found

    def _choose(
        self, lane: Lane, goal: Goal, mates: Sequence[Job], now: float
    ) -> tuple[int, int, float] | None:
        """Return which option of the lane's order, how many of *mates*, and when it can start.

        None if the first of *mates* can't be met.
        """
        order = lane.order(goal)
        first = lane.start(goal, mates[0].rows)
        waiting_rows = sum(job.rows for job in mates)
        busy_ms = self._cores.busy_ms(now)
        thrifty = lane.thrifty
        call_ms = thrifty.p95_ms(lane.call_rows(thrifty)) if thrifty is not None else 0.0
        fallback: tuple[float, int, int, float] | None = None
        for index in (*range(first, len(order)), *range(first)):
            runner = order[index]
            start = self._cores.free_at(runner.threads, now)
            groups = max(1, self._cores.free // runner.threads)  # idle cores share what waits
            most = min(lane.call_rows(runner), -(-waiting_rows // groups))
            count = takes(runner, mates, start, most)
            if not count:
                continue
            rows = sum(job.rows for job in mates[:count])
            used_ms = runner.p50_ms(rows) * runner.threads / self._cores.count
            through = now + (busy_ms + used_ms) / 1000
            if index >= first and leaves_time(
                self._behind(mates, count), through, call_ms, self.tuning.margin
            ):
                return index, count, start
            cost = used_ms / rows
            if fallback is None or cost < fallback[0]:
                fallback = (cost, index, count, start)
        return None if fallback is None else fallback[1:]

    def _behind(self, mates: Sequence[Job], count: int) -> Sequence[Job]:
        """Return the waiting jobs but the first *count* of *mates*, in order."""
        taken = set(map(id, mates[:count]))
        return [job for job in self._queue if id(job) not in taken]

    def _least_ms(self, lane: Lane, rows: int) -> float:
        """Return the p95 latency of *rows* rows on the fastest option, in ms."""
        return min((runner.p95_ms(rows) for runner in lane.order("latency")), default=0.0)

    def _batch(self, lane: Lane, goal: Goal, index: int, jobs: list[Job], now: float) -> Batch:
        runner = lane.order(goal)[index]
        rows = 0
        for job in jobs:
            rows += job.rows
            if self._queue:
                self._queue.remove(job)
        if runner.option is not lane.last:
            self._switched(lane, goal, index, jobs[0], now)
        lane.took(goal, index, rows)
        batch = Batch(
            lane.name, runner.option, jobs, rows, started=now, expected_ms=runner.p50_ms(rows)
        )
        if not runner.health.closed:
            batch.trial = runner.health.trying = True
            self._refresh(now)
        self._cores.start(batch)
        return batch

    def _again(
        self,
        batch: Batch,
        runner: Runner,
        jobs: list[Job],
        now: float,
        failed: Option | None = None,
    ) -> Batch:
        """Return another attempt at *jobs* of *batch*, begun."""
        rows = sum(job.rows for job in jobs)
        again = Batch(
            lane=batch.lane,
            option=runner.option,
            jobs=jobs,
            rows=rows,
            started=now,
            expected_ms=runner.p50_ms(rows),
            attempt=batch.attempt + 1 if len(jobs) == len(batch.jobs) and failed else ALONE,
            failed=failed,
        )
        self._cores.start(again)
        return again

    def _others(self, batch: Batch) -> list[Runner]:
        """Return what could answer *batch* instead; a pin does not turn a failure into an error."""
        lane = self._lanes.get(batch.lane)
        runners = lane.runners if lane is not None else ()
        return [r for r in runners if r.health.closed and r.option is not batch.option]

    # Rotation ------------------------------------------------------------------------------------

    def _take_out(self, variant: str, now: float, why: str) -> None:
        health = self._health[variant]
        pause_s = health.open(now, self.tuning.backoff_s, self.tuning.longest_backoff_s)
        text = f"{variant} failed and pauses for {pause_s:g} s: {why}"
        self._rotated("failure", now, text, {"failures": health.failures, "pause_s": pause_s})

    def _rotated(self, reason: Reason, now: float, why: str, figures: Mapping[str, float]) -> None:
        """Bring the lanes up to date with what is in rotation, and say so."""
        self._refresh(now)
        for lane in self._lanes.values():
            self._decide(lane, reason, now, why, figures)

    def _refresh(self, now: float) -> None:
        for lane in self._lanes.values():
            lane.refresh(now)
            lane.plan(lane.rate.cautious)

    # What is told --------------------------------------------------------------------------------

    def _decide(
        self,
        lane: Lane,
        reason: Reason,
        now: float,
        why: str,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Record what most of the lane's requests start from, if that changed."""
        runner = lane.main(self._goal)
        after = None if runner is None else runner.option
        if after is lane.nominal:
            return
        before, lane.nominal = lane.nominal, after
        self.journal.record(lane, before, after, reason, now, why, figures or {})

    def _switched(self, lane: Lane, goal: Goal, index: int, job: Job, now: float) -> None:
        runner = lane.order(goal)[index]
        reason: Reason = "rate"
        if lane.last is None:
            reason = "start"
        elif index != lane.start(goal, job.rows):
            reason = "slack"
        elif job.goal is not None:
            reason = "prefer"
        figures = {
            "slack_ms": (job.due - now) * 1000,
            "queue": float(len(self._queue)),
            "ratio": runner.health.ratio,
            "p95_ms": runner.p95_ms(job.rows),
        }
        self.journal.switched(lane, runner.option, reason, now, figures)
