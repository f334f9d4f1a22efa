"""The engine: one policy on this host, loaded, and one way to ask it for an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.engine.answerers import Served
from scanflow_serve.runtime.engine.black_box import BlackBox, Crashes
from scanflow_serve.runtime.engine.control import Control
from scanflow_serve.runtime.engine.dispatch import Dispatcher
from scanflow_serve.runtime.engine.fleet import Fleet
from scanflow_serve.runtime.engine.loading import Loading
from scanflow_serve.runtime.engine.report import Counters, counters, state_json
from scanflow_serve.runtime.engine.residents import Open, open_session
from scanflow_serve.runtime.engine.steering import Steering
from scanflow_serve.runtime.engine.tickets import Ticket
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.prediction_ids import prediction_ids
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.requests import Prefer, Request, Response
from scanflow_serve.runtime.scheduler.jobs import Decision, Job
from scanflow_serve.runtime.scheduler.scheduler import Scheduler
from scanflow_serve.runtime.workflow.pipeline import Pipeline

DRAIN_S = 0.01  # between looks at whether all is answered


class Engine:
    """The plan of one policy on this host, loaded.

    Args:
        notify: Called with what happens.
        state: The policy's state folder, where crashes are remembered; None: nowhere.
        settled: Called in a thread after something was loaded.
        open_one: Opens sessions.
        root: Where the host's files lie, as `profile_host` takes it.

    Raises:
        BackendError: A session of the chosen candidate can't be opened; nothing stays loaded.
        ArtifactError: A converted model was removed meanwhile; prepare again.
        WorkflowError: A Python step can't be imported or failed on the sample row.
        StateError: The state folder can't be written.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        notify: Callable[[Event], None] | None = None,
        state: Path | None = None,
        settled: Callable[[], None] | None = None,
        open_one: Open = open_session,
        root: str = "/",
    ) -> None:
        self.policy_file: PolicyFile = prepared.policy_file
        self.host: HostProfile = prepared.host
        self._prepared = prepared
        self._notify = notify or (lambda event: None)
        policy = self.policy_file.policy
        cores = max(1, int(self.host.cpu.cores))
        self._default_deadline_s = policy.default_deadline_ms / 1000
        self._scheduler = Scheduler(
            cores=cores,
            max_queue=policy.scheduling.max_queue,
            max_batch=policy.scheduling.max_batch,
            deadline_s=self._default_deadline_s,
            notify=self._decided,
            now=time.perf_counter(),
        )
        suspects = {} if state is None else Crashes(state).collect()
        self._box = None if state is None else BlackBox(state)
        self._dispatch = Dispatcher(
            self._scheduler,
            cores=cores,
            max_batch=policy.scheduling.max_batch,
            idle=lambda: self._loading.close_idle(),
            box=self._box,
        )
        self._fleet = Fleet(prepared, open_one)
        self._steering = Steering(policy, self._scheduler, self._notify)
        self._loading = Loading(
            prepared,
            self._fleet,
            self._scheduler,
            self._dispatch,
            self._steering,
            notify=self._notify,
            settled=settled or (lambda: None),
            suspects=suspects,
        )
        self._control = Control(
            prepared,
            self._fleet,
            self._scheduler,
            self._dispatch,
            self._steering,
            notify=self._notify,
            root=root,
            crashes=None if state is None else Crashes(state),
            suspects=suspects,
        )
        self._tasks: list[asyncio.Task[None]] = []
        try:
            self._loading.load_first()
        except BaseException:
            self.close()
            raise

    @property
    def plan(self) -> Plan:
        """Return the plan, with what was found when it was loaded."""
        return replace(self._prepared.plan, notes=(*self._prepared.plan.notes, *self._fleet.notes))

    # Names ---------------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Return the public names that answer, the policy's first."""
        return tuple(self._fleet.now.names)

    def served(self, name: str, version: str | None = None) -> Served:
        """Return what answers to *name*.

        Raises:
            RequestError: 404, unknown name or version; says which exist, or that the policy
                knows the name but it is not loaded on this host.
        """
        served = self._fleet.now.names.get(name)
        if served is None:
            what = "is not loaded on this host" if self._knows(name) else "is unknown"
            raise RequestError(
                404, f"Model {name!r} {what}. Loaded here: {', '.join(self.names())}."
            )
        if version is not None and version != served.version:
            raise RequestError(
                404, f"Model {name!r} has no version {version!r} here, only {served.version!r}."
            )
        return served

    def pipelines(self, name: str) -> dict[str, Pipeline]:
        """Return all that may answer to *name* at present, by variant id.

        Raises:
            RequestError: 404, as `served`.
        """
        lane = self.served(name).lane
        answerers = self._fleet.now.answerers[lane].values()
        return {answerer.variant: answerer.pipeline for answerer in answerers}

    def watched_by(self, checks: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        """Let conditions see what *checks* says of each check, by name."""
        self._control.checks = checks

    def _knows(self, name: str) -> bool:
        policy = self.policy_file.policy
        return name in policy.models or name in policy.workflows

    # Requests ------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Return how many requests wait for a core."""
        return self._scheduler.queued

    def turn_away(
        self, served: Served, client: str, deadline_ms: float | None, prefer: Prefer | None
    ) -> None:
        """Do nothing if a request for *served* may be answered in time; called before it is read.

        Raises:
            RequestError: As `infer` would, were it a single row.
        """
        if not self._scheduler.queued:
            return
        now = time.perf_counter()
        due = now + self._deadline_s(deadline_ms)
        self._scheduler.turn_away(Job(served.lane, 1, now, due, client, goal=prefer), now)

    def _deadline_s(self, deadline_ms: float | None) -> float:
        return self._default_deadline_s if deadline_ms is None else deadline_ms / 1000

    async def infer(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            RequestError: 404 unknown name, 503 queue full, 504 deadline can't be met.
            InputError: Inputs don't fit the signature.
            BackendError: The inference failed.
            WorkflowError: A Python step failed.
        """
        arrived = time.perf_counter()
        served = self._fleet.now.names.get(request.model) or self.served(request.model)
        due = arrived + self._deadline_s(request.deadline_ms)
        job = Job(
            served.lane,
            request.rows,
            arrived,
            due,
            request.client,
            request.priority,
            request.prefer,
            Ticket(request),
        )
        answer = await self._dispatch.answer(job, arrived)
        answerer = answer.answerer
        return Response(
            answer.outputs,
            prediction_ids(request.rows),
            answerer.model,
            answerer.version,
            answerer.candidate.run,
            answerer.variant,
            (answer.started - job.arrived) * 1000,
            (answer.ended - answer.started) * 1000,
            answerer.labels,
            answerer.pipeline.output,
            answerer.pipeline.kind,
            answerer.accuracy,
            answer.batch_rows,
            answer.ended > due,
        )

    # Changes -------------------------------------------------------------------------------------

    async def load(self, name: str) -> None:
        """Load the model *name*, so that it answers, and may answer the policy's run too.

        Raises:
            RequestError: 404, the policy has no such model; 409, it can't be served on this
                host; 503, there is no memory for it.
            ScanflowError: It could not be loaded; what answered before still does.
        """
        await self._loading.load(name)

    async def unload(self, name: str) -> None:
        """Let the model *name* answer no more; what of it runs is finished first.

        Raises:
            RequestError: 404, the policy has no such model; 409, the policy's run can't be
                answered without it.
        """
        await self._loading.unload(name)

    def pin(self, what: str | None) -> None:
        """Answer by the variant, candidate or model *what* alone, wherever it can; None: undo.

        Raises:
            RequestError: 404, it is unknown or not loaded.
        """
        self._steering.pin(what, tuple(self._fleet.now.by_option), time.perf_counter())

    async def start(self) -> None:
        """Begin to adapt: control the scheduler, and load the standbys behind the requests."""
        self._tasks = [
            asyncio.create_task(self._control.run(), name="control"),
            asyncio.create_task(self._loading.load_rest(), name="standbys"),
        ]

    async def stop(self) -> None:
        """Answer all that waits, then adapt no more."""
        while self._dispatch.waiting:
            await asyncio.sleep(DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def close(self) -> None:
        """Finish what runs and free all sessions."""
        self._dispatch.close()
        self._loading.close()
        if self._box is not None:
            self._box.close()

    # What it tells -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what runs now, and what was decided lately, newest last; JSON."""
        waiting, upkeep_ms = self._dispatch.waiting, self._control.upkeep.ms
        return state_json(self._scheduler, self._fleet, self._steering, waiting, upkeep_ms)

    def counters(self) -> Counters:
        """Return the figures of this moment, for metrics."""
        return counters(self._scheduler, self._fleet, self._dispatch)

    def _decided(self, decision: Decision) -> None:
        details = {"from": decision.before, "to": decision.after, "reason": decision.reason}
        self._notify(Event("decision", decision.lane, decision.why, decision.figures, details))
