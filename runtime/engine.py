"""The loaded plan: public names, their signatures, and one way to ask for an answer.

What HTTP sees of the runtime. `Engine.infer` admits a request, runs it inline or on a worker
thread by its measured latency, and returns the answer with a prediction id for every row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Policy
from scanflow_serve.runtime import validation
from scanflow_serve.runtime.backends.registry import backend
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.prediction_ids import prediction_ids
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.requests import Request, Response
from scanflow_serve.runtime.scheduler.admission_old import Admission, Cost, cost, late
from scanflow_serve.runtime.store import held_in_store
from scanflow_serve.runtime.supply import artifact_for, class_names
from scanflow_serve.runtime.tensors import Signature, Tensors
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow import graph
from scanflow_serve.runtime.workflow.pipeline import Pipeline, build

# A thread hop costs about 50 us and a context switch; a call under this blocks the event loop
# for less than the loop's own share of a request.
INLINE_MS = 1.0


@dataclass(frozen=True, slots=True)
class Served:
    """One public name.

    Attributes:
        model: Names of the models that answer, joined by ``+``; "" for Python steps alone.
        version: The model's version; "1" if several models or none answer.
        labels: Class names in output order, None if neither the policy nor the source has any.
    """

    name: str
    kind: Literal["policy", "workflow", "model"]
    model: str
    version: str
    pipeline: Pipeline
    measurement: Measurement | None
    labels: tuple[str, ...] | None

    @property
    def signature(self) -> Signature:
        """Return the public inputs and outputs."""
        return self.pipeline.signature


class Engine:
    """The plan of one policy on this host, loaded.

    Raises:
        BackendError: A session of the chosen candidate can't be opened; nothing stays loaded.
        ArtifactError: A converted model was removed meanwhile; prepare again.
        WorkflowError: A Python step can't be imported or failed on the sample row.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.policy_file: PolicyFile = prepared.policy_file
        self.host: HostProfile = prepared.host
        self.plan: Plan = prepared.plan
        with ExitStack() as stack:
            self._served = _load(prepared, stack)
            threads = max((v.threads for v in self.plan.chosen.variants), default=1)
            workers = max(1, int(self.host.cpu.cores) // threads)
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inference")
            self._resources = stack.pop_all()
        scheduling = self.policy_file.policy.scheduling
        self.admission = Admission(workers=workers, max_queue=scheduling.max_queue)
        self._max_batch = scheduling.max_batch

    def names(self) -> tuple[str, ...]:
        """Return the public names that answer, the policy's first."""
        return tuple(self._served)

    def served(self, name: str, version: str | None = None) -> Served:
        """Return what answers to *name*.

        Raises:
            RequestError: 404, unknown name or version; says which exist, or that the policy
                knows the name but it is not loaded on this host.
        """
        served = self._served.get(name)
        if served is None:
            policy = self.policy_file.policy
            known = name in policy.models or name in policy.workflows
            what = "is not loaded on this host" if known else "is unknown"
            raise RequestError(
                404, f"Model {name!r} {what}. Loaded here: {', '.join(self._served)}."
            )
        if version is not None and version != served.version:
            raise RequestError(
                404, f"Model {name!r} has no version {version!r} here, only {served.version!r}."
            )
        return served

    async def infer(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            RequestError: 404 unknown name, 503 queue full, 504 deadline can't be met.
            InputError: Inputs don't fit the signature.
            BackendError: The inference failed.
            WorkflowError: A Python step failed.
        """
        arrived = time.perf_counter()
        served = self.served(request.model)
        deadline_ms = request.deadline_ms or self.policy_file.policy.default_deadline_ms
        expected = cost(served.measurement, request.rows)
        self.admission.admit(expected, deadline_ms)
        if expected.p95_ms <= INLINE_MS and not self.admission.queued:
            try:
                started = time.perf_counter()
                outputs = self._run(served.pipeline, request)
                ended = time.perf_counter()
            finally:
                self.admission.release(expected)
        else:
            due = arrived + deadline_ms / 1000
            outputs, started, ended = await self._by_worker(due, expected, served.pipeline, request)
        return Response(
            outputs=outputs,
            prediction_ids=prediction_ids(request.rows),
            model=served.model,
            version=served.version,
            workflow=served.pipeline.candidate.run,
            variant=served.pipeline.candidate.variant_id,
            queue_ms=(started - arrived) * 1000,
            compute_ms=(ended - started) * 1000,
        )

    def close(self) -> None:
        """Finish what runs and free all sessions."""
        self._pool.shutdown(wait=True)
        self._resources.close()

    async def _by_worker(
        self, due: float, expected: Cost, pipeline: Pipeline, request: Request
    ) -> tuple[Tensors, float, float]:
        loop = asyncio.get_running_loop()

        def release(_work: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.admission.release, expected)

        try:
            work = self._pool.submit(self._run_by, due, expected, pipeline, request)
        except RuntimeError:  # the engine is closed
            self.admission.release(expected)
            raise
        # Not when this coroutine ends: a client that hangs up does not stop the thread.
        work.add_done_callback(release)
        return await asyncio.wrap_future(work)

    def _run_by(
        self, due: float, expected: Cost, pipeline: Pipeline, request: Request
    ) -> tuple[Tensors, float, float]:
        started = time.perf_counter()
        slack_ms = (due - started) * 1000
        if slack_ms < expected.p95_ms:  # refused before inference, not after
            raise late(0.0, expected, max(0.0, slack_ms))
        return self._run(pipeline, request), started, time.perf_counter()

    def _run(self, pipeline: Pipeline, request: Request) -> Tensors:
        if request.rows <= self._max_batch:
            return pipeline.run(request.inputs)
        parts = [
            pipeline.run({k: v[at : at + self._max_batch] for k, v in request.inputs.items()})
            for at in range(0, request.rows, self._max_batch)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _load(prepared: Prepared, stack: ExitStack) -> dict[str, Served]:
    """Return what the plan's choice serves; sessions are closed by *stack*."""
    policy = prepared.policy_file.policy
    chosen = prepared.plan.chosen
    sessions: dict[Variant, Session] = {}
    for variant in dict.fromkeys(chosen.variants):
        artifact = artifact_for(variant, prepared.artifacts[variant.model])
        if (held := held_in_store(artifact)) is not None:
            stack.callback(held.close)
        session = backend(variant.backend).open(
            artifact,
            precision=variant.precision,
            device=variant.device,
            threads=variant.threads,
        )
        stack.callback(session.close)
        sessions[variant] = session
    load_one = _Loader(prepared, sessions, _sample(prepared.policy_file), stack)
    main = load_one(chosen, graph.alternative(policy, chosen.run))
    served = {policy.name: _named(policy.name, "policy", main, prepared)}
    if chosen.run in policy.workflows:
        served[chosen.run] = _named(chosen.run, "workflow", main, prepared)
    for variant in sessions:
        alternative = graph.model_alternative(variant.model)
        single = load_one(Candidate(alternative.name, (variant,)), alternative)
        served[variant.model] = _named(variant.model, "model", single, prepared)
    return served


def _sample(policy_file: PolicyFile) -> validation.Rows | None:
    """Return a few validation rows, from which Python steps learn dtypes and shapes."""
    data = policy_file.policy.validation
    if data is None:
        return None
    return validation.load_rows(data.model_copy(update={"samples": 4}), policy_file)


@dataclass(frozen=True, slots=True)
class _Loader:
    prepared: Prepared
    sessions: Mapping[Variant, Session]
    sample: validation.Rows | None
    stack: ExitStack

    def __call__(self, candidate: Candidate, alternative: graph.Alternative) -> Pipeline:
        pipeline = build(
            self.prepared.policy_file,
            alternative,
            candidate,
            [self.sessions[variant] for variant in candidate.variants],
            signatures={name: each[0].signature for name, each in self.prepared.artifacts.items()},
            kinds=self.prepared.kinds,
            sample=self.sample,
        )
        self.stack.callback(pipeline.close)
        return pipeline


def _named(
    name: str, kind: Literal["policy", "workflow", "model"], pipeline: Pipeline, prepared: Prepared
) -> Served:
    policy: Policy = prepared.policy_file.policy
    models = [policy.models[variant.model] for variant in pipeline.candidate.variants]
    given = (
        class_names(policy.models[name], prepared.artifacts[name])
        for name in (variant.model for variant in pipeline.candidate.variants)
    )
    labels = next((names for names in given if names), None)
    return Served(
        name=name,
        kind=kind,
        model="+".join(dict.fromkeys(v.model for v in pipeline.candidate.variants)),
        version=models[0].version if len(models) == 1 else "1",
        pipeline=pipeline,
        measurement=prepared.measurements.measured.get(pipeline.candidate.id),
        labels=labels,
    )
