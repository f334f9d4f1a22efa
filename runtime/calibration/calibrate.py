"""Measures the candidates of a policy on this host, within a time budget."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.calibration.benchmark import Effort
from scanflow_serve.runtime.calibration.cache import MeasurementCache, cache_key
from scanflow_serve.runtime.calibration.child import run_child
from scanflow_serve.runtime.calibration.job import Job, Result
from scanflow_serve.runtime.folders import cache_folder
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement, Refusal
from scanflow_serve.runtime.tensors import OutputKind, Tensors
from scanflow_serve.runtime.variants import Candidate

Progress: TypeAlias = Callable[[int, int, str], None]  # done, of, what comes next

SLICE_S = 0.5  # of latencies a candidate; longer moves a p50 by less than a noisy neighbour does
WINDOW_S = 0.15  # of sustained throughput
GIVE_UP = 4.0  # times the default deadline: no request would be batched into a call that long
LEAST_TIMEOUT_S = 20.0  # a child loads libraries and a model before it measures


@dataclass(frozen=True, slots=True)
class Calibration:
    """The outcome, by `Candidate.id`; every candidate is either measured or refused.

    Attributes:
        outputs: Of each measured candidate on the same rows, at most 64 of the validation data,
            or generated ones.
    """

    measured: dict[str, Measurement] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    outputs: dict[str, Tensors] = field(default_factory=dict)


def calibrate(
    policy_file: PolicyFile,
    host: HostProfile,
    candidates: Sequence[Candidate],
    artifacts: Mapping[str, Sequence[Artifact]],
    *,
    budget_s: float,
    recalibrate: bool = False,
    progress: Progress | None = None,
    timeout_s: float | None = None,
    kinds: Mapping[str, OutputKind] | None = None,
) -> Calibration:
    """Return what *candidates* show on this host; figures of earlier starts are taken as they are.

    Args:
        artifacts: By model name, of all models that the run's slots name; see `Supply.artifacts`.
        budget_s: Wall time for measuring; candidates left when it is spent are refused, with the
            code ``budget``. The last child may end after it.
        recalibrate: Measure all of them again.
        timeout_s: Of one child; default: half of the budget that is left, at least 20 s.
        kinds: Of models' classification outputs, as far as they are known; see `pipeline.build`.

    Raises:
        ArtifactError: A file that the measurements depend on can't be read.
    """
    cache = MeasurementCache(cache_folder() / "measurements")
    kinds = kinds or {}
    keys = {c.id: cache_key(policy_file, host, c, artifacts, kinds) for c in candidates}
    outcome = Calibration()
    missing: list[Candidate] = []
    for candidate in candidates:
        kept = None if recalibrate else cache.get(keys[candidate.id])
        if kept is None:
            missing.append(candidate)
        else:
            _record(outcome, policy_file, candidate, kept)
    clock = _Budget(budget_s, timeout_s)
    groups = _groups(missing)
    for number, group in enumerate(groups):
        done = sum(len(earlier) for earlier in groups[:number])
        if progress:
            progress(done, len(missing), group[0].id)
        results = _measure(policy_file, group, artifacts, host, kinds, clock, len(groups) - number)
        for candidate, result in zip(group, results, strict=True):
            cache.put(keys[candidate.id], result)
            _record(outcome, policy_file, candidate, result)
    if progress and missing:
        progress(len(missing), len(missing), "")
    return outcome


class _Budget:
    """Wall time that is left."""

    def __init__(self, budget_s: float, timeout_s: float | None) -> None:
        self.total_s = budget_s
        self._end = time.monotonic() + budget_s
        self._timeout_s = timeout_s

    def left_s(self) -> float:
        return self._end - time.monotonic()

    def timeout_s(self) -> float:
        return self._timeout_s or max(LEAST_TIMEOUT_S, self.left_s() / 2)


def _groups(candidates: Sequence[Candidate]) -> list[tuple[Candidate, ...]]:
    """Return the candidates that differ only in threads together, most threads first."""
    groups: dict[Candidate, list[Candidate]] = {}
    for candidate in candidates:
        alike = tuple(replace(variant, threads=1) for variant in candidate.variants)
        groups.setdefault(replace(candidate, variants=alike), []).append(candidate)
    return [
        tuple(sorted(group, key=lambda c: -sum(v.threads for v in c.variants)))
        for group in groups.values()
    ]


def _measure(
    policy_file: PolicyFile,
    group: tuple[Candidate, ...],
    artifacts: Mapping[str, Sequence[Artifact]],
    host: HostProfile,
    kinds: Mapping[str, OutputKind],
    budget: _Budget,
    groups_left: int,
) -> list[Result]:
    left_s = budget.left_s()
    if left_s <= 0:
        return [Result(refusal=_out_of_budget(budget.total_s)) for _ in group]
    share_s = left_s / groups_left / len(group)
    effort = Effort(
        slice_s=min(SLICE_S, share_s),
        limit_s=share_s,
        give_up_ms=GIVE_UP * policy_file.policy.default_deadline_ms,
        window_s=min(WINDOW_S, share_s),
    )
    with tempfile.TemporaryDirectory(prefix="scanflow-calibration-") as folder:
        cores = max(1, int(host.cpu.cores))
        job = Job(policy_file, group, artifacts, effort, Path(folder), cores, kinds)
        return run_child(job, budget.timeout_s())


def _out_of_budget(budget_s: float) -> Refusal:
    return Refusal(
        "budget",
        f"the {budget_s:g} s for measuring were spent before its turn. Raise measurement.budget_s "
        "in the policy, or run: scanflow-serve calibrate.",
    )


def _record(
    outcome: Calibration, policy_file: PolicyFile, candidate: Candidate, result: Result
) -> None:
    if result.measurement is None:
        reason = result.refusal or Refusal("failed", "the measuring process gave no figures.")
        outcome.refused[candidate.id] = reason
        return
    outcome.measured[candidate.id] = _declared(policy_file, candidate, result.measurement)
    outcome.outputs[candidate.id] = result.outputs or {}


def _declared(
    policy_file: PolicyFile, candidate: Candidate, measurement: Measurement
) -> Measurement:
    """Return *measurement* with the policy's accuracy, where none was measured and one applies."""
    models = {variant.model for variant in candidate.variants}
    if measurement.accuracy is not None or len(models) != 1:
        return measurement
    accuracy = policy_file.policy.models[models.pop()].accuracy
    if accuracy is None:
        return measurement
    return replace(measurement, accuracy=accuracy, declared=True)
