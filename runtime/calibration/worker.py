"""The child process: loads the candidates of one job, measures each as served, writes results.

``python -m scanflow_serve.runtime.calibration.worker``, the job's JSON on stdin.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import numpy as np

from scanflow_serve.policies.errors import (
    ArtifactError,
    BackendError,
    CalibrationError,
    InputError,
    MissingExtraError,
    ScanflowError,
    WorkflowError,
)
from scanflow_serve.policies.schema import Validation
from scanflow_serve.runtime import validation
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.backends.registry import CPU
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.calibration import benchmark, contention, rows
from scanflow_serve.runtime.calibration.energy import find_meter
from scanflow_serve.runtime.calibration.job import Job, Result, write_result
from scanflow_serve.runtime.calibration.memory import MemoryGauge
from scanflow_serve.runtime.measurements import Latency, Measurement, Refusal
from scanflow_serve.runtime.process import die_with_parent
from scanflow_serve.runtime.scheduler.tuning import INLINE_MS
from scanflow_serve.runtime.supply import artifact_for, class_names
from scanflow_serve.runtime.tensors import Tensors
from scanflow_serve.runtime.validation import Rows
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow import graph, pipeline
from scanflow_serve.runtime.workflow.pipeline import Pipeline

VERIFIED_ROWS = 64  # whose outputs are kept, to compare variants by


class Bench:
    """Measures the candidates of one job, one after another.

    Memory and accuracy are measured on the first candidate, the one with the most threads, and
    hold for the others: a process that has loaded a model once no longer shows what loading
    adds, more threads never need less, and the number of threads does not change the answers.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._policy = job.policy_file.policy
        self._alternative = graph.alternative(self._policy, job.candidates[0].run)
        self._sample = (
            validation.load_rows(self._policy.validation, job.policy_file)
            if self._policy.validation
            else None
        )
        self._backends = {
            variant.backend: registry.backend(variant.backend)
            for variant in job.candidates[0].variants
        }
        self._gauge = MemoryGauge()
        self._memory_mb: float | None = None
        self._accuracy: float | None = None
        self._unscored = ""
        self._outputs: Tensors = {}

    def measure(self, candidate: Candidate) -> Result:
        """Return the figures of *candidate*, or why there are none."""
        with ExitStack() as stack:
            start = time.perf_counter()
            sessions: dict[Variant, Session] = {}
            for variant in candidate.variants:
                if variant not in sessions:
                    try:
                        sessions[variant] = self._open(variant)
                    except (BackendError, ArtifactError) as error:
                        # An accelerator's driver may come, or another process let go of it.
                        code = "unsupported" if variant.device == CPU else "failed"
                        return Result(refusal=Refusal(code, str(error)))
                    stack.callback(sessions[variant].close)
            served = self._build(candidate, sessions)
            stack.callback(served.close)
            return self._measure(served, time.perf_counter() - start, candidate)

    def _open(self, variant: Variant) -> Session:
        return self._backends[variant.backend].open(
            self._artifact(variant),
            precision=variant.precision,
            device=variant.device,
            threads=variant.threads,
        )

    def _build(self, candidate: Candidate, sessions: Mapping[Variant, Session]) -> Pipeline:
        return pipeline.build(
            self._job.policy_file,
            self._alternative,
            candidate,
            [sessions[variant] for variant in candidate.variants],
            signatures={name: each[0].signature for name, each in self._job.artifacts.items()},
            sample=self._sample,
            kinds=self._job.kinds,
        )

    def _measure(self, served: Pipeline, load_s: float, candidate: Candidate) -> Result:
        effort = self._job.effort
        max_batch = self._policy.scheduling.max_batch
        inputs = self._inputs(served)
        block = rows.repeat(inputs, max_batch)
        calls = {
            size: _call(served, {name: array[:size] for name, array in block.items()})
            for size in benchmark.batch_sizes(max_batch)
        }
        latency = benchmark.measure_latency(calls, effort)
        best = benchmark.best_batch(latency)
        callers = self._callers(candidate, latency[best])
        meter = find_meter()
        if meter:
            meter.start()
        window = contention.measure_window(calls[best], callers, effort.window_s)
        rows_done = len(window.took_s) * best
        energy_mj = meter.stop() / rows_done if meter else None
        if self._memory_mb is None:
            # The rows are the caller's, not the model's.
            own_mb = sum(array.nbytes for array in block.values()) / 2**20
            self._memory_mb = max(0.0, self._gauge.added_mb() - own_mb)
            self._answer(served, inputs, max_batch)
        return Result(
            measurement=Measurement(
                load_s=load_s,
                memory_mb=self._memory_mb,
                latency=latency,
                throughput_rps=rows_done / window.elapsed_s,
                best_batch=best,
                size_mb=self._size_mb(candidate),
                energy_mj=energy_mj,
                accuracy=self._accuracy,
                accuracy_rows=self._sample.rows
                if self._sample and self._accuracy is not None
                else 0,
                kind=served.kind,
                unscored=self._unscored,
                contention=self._contention(calls[best], callers, latency[best]),
            ),
            outputs=self._outputs,
        )

    def _callers(self, candidate: Candidate, latency: Latency) -> int:
        """Return how many calls the server makes at once: short ones run one after another."""
        if latency.p95_ms <= INLINE_MS:
            return 1
        threads = max((variant.threads for variant in candidate.variants), default=1)
        return max(1, self._job.cores // threads)

    def _contention(self, call: benchmark.Call, callers: int, latency: Latency) -> float | None:
        """Return how calls slow each other; None where to measure it would take too long."""
        if callers > 1 and contention.least_s(latency.p50_ms / 1e3) > self._job.effort.limit_s:
            return None
        return contention.measure_contention(call, callers, self._job.effort.window_s)

    def _inputs(self, served: Pipeline) -> Tensors:
        if self._sample is None:
            return rows.generate(served.signature, VERIFIED_ROWS)
        return served.inputs(self._sample)

    def _answer(self, served: Pipeline, inputs: Tensors, max_batch: int) -> None:
        """Keep the outputs of the first rows, and the metric over all rows that have a target."""
        sample = self._sample
        scored = sample is not None and sample.target is not None and served.output is not None
        count = len(next(iter(inputs.values()))) if scored else VERIFIED_ROWS
        parts = [
            served.run({name: array[start : start + max_batch] for name, array in inputs.items()})
            for start in range(0, min(count, len(next(iter(inputs.values())))), max_batch)
        ]
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._outputs = {name: array[:VERIFIED_ROWS] for name, array in outputs.items()}
        if self._policy.validation is not None and sample is not None:
            try:
                self._accuracy = self._score(self._policy.validation, served, sample, outputs)
            except (CalibrationError, WorkflowError) as error:
                self._unscored = str(error)

    def _score(
        self, rules: Validation, served: Pipeline, sample: Rows, outputs: Tensors
    ) -> float | None:
        if sample.target is None:
            return None
        slots = graph.slots(self._policy, self._alternative)
        labels = None
        if slots:
            name = slots[-1].models[0]
            labels = class_names(self._policy.models[name], self._job.artifacts.get(name, ()))
        output = served.classification(outputs)
        return validation.score(rules.metric, output, sample.target, labels)

    def _size_mb(self, candidate: Candidate) -> float:
        files = {a.id: a.size_bytes for a in map(self._artifact, candidate.variants)}
        return sum(files.values()) / 2**20

    def _artifact(self, variant: Variant) -> Artifact:
        return artifact_for(variant, self._job.artifacts[variant.model])


def measure(job: Job) -> Iterator[Result]:
    """Return a result for every candidate of *job*, in order, each as soon as it is known."""
    try:
        bench = Bench(job)
    except ScanflowError as error:
        for _ in job.candidates:
            yield Result(refusal=_refusal(error))
        return
    for candidate in job.candidates:
        try:
            yield bench.measure(candidate)
        except Exception as error:  # a user's Python step may raise anything
            traceback.print_exc()
            yield Result(refusal=_refusal(error))


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, MissingExtraError):
        return Refusal("not_installed", str(error))
    if isinstance(error, ScanflowError) and not isinstance(error, InputError):
        return Refusal("failed", str(error))
    return Refusal("failed", f"{type(error).__name__}: {error}")


def _call(served: Pipeline, inputs: Tensors) -> benchmark.Call:
    return lambda: served.run(inputs)


def main() -> None:
    """Run the job on stdin."""
    die_with_parent()
    os.dup2(2, 1)  # what libraries and Python steps print belongs to the log of a failure
    job = Job.from_json(json.load(sys.stdin))
    for number, result in enumerate(measure(job)):
        write_result(job.folder / str(number), result)


if __name__ == "__main__":
    main()
