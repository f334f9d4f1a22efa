"""From a model's source to all files that a host may load: fetched, exported, converted, verified.

What was made lies in the store under the hash of all that it depends on, so that it is made once;
so does a refusal. What can't be converted takes only its own candidates down.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scanflow_serve.converters import routes, runner
from scanflow_serve.converters.conversion import Context, Options
from scanflow_serve.converters.origins.kinds import find_origin
from scanflow_serve.converters.origins.origin import Origin
from scanflow_serve.converters.ready import ReadyArtifacts, Wanted
from scanflow_serve.converters.routes import Form, Step, installed_tools
from scanflow_serve.converters.sources import SUFFIXES, file_artifact, ingest
from scanflow_serve.converters.trial import Trial, answers, fitted
from scanflow_serve.converters.weights import effective, shares
from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError, ScanflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime import validation
from scanflow_serve.runtime.artifacts import Artifact, Format, Manifest, file_digest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.backends.registry import devices
from scanflow_serve.runtime.candidates import Stored, conversions
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.store import ArtifactStore, artifact_key, shared_store
from scanflow_serve.runtime.stored import Made, Refused
from scanflow_serve.runtime.supply import Supply, class_names
from scanflow_serve.runtime.tensors import Tensors

Progress = Callable[[int, int, str], None]  # done, of, what comes next
# What a backend runs in a precision that it does not cast to.
FORMATS: Mapping[str, Format] = {"onnxruntime": "onnx", "openvino": "openvino"}
EXPORT = "export"


@dataclass(frozen=True, slots=True)
class _Subject:
    """One model's source.

    Attributes:
        artifact: Its own form, which backends load.
        digest: Of the source that the form was made from.
        ask: Returns what the source answers.
    """

    name: str
    model: schema.Model
    policy_file: PolicyFile
    artifact: Artifact
    digest: str
    ask: Callable[[Tensors], Tensors]


@dataclass(slots=True)
class Maker:
    """Makes artifacts for one host; `__call__` is `runtime.stages.Ingest`.

    Attributes:
        host: That is to run them.
        installed: Backend name -> whether that host has it.
        progress: Called before each conversion.
    """

    host: HostProfile
    store: ArtifactStore = field(default_factory=shared_store)
    installed: Mapping[str, bool] = field(
        default_factory=lambda: {name: registry.installed(name) for name in registry.BACKENDS}
    )
    progress: Progress | None = None
    limits: runner.Limits = field(default_factory=runner.Limits)
    _ready: ReadyArtifacts = field(init=False)

    def __post_init__(self) -> None:
        """Look for what others made in the same store."""
        self._ready = ReadyArtifacts(self.store, lambda what: self._tell(0, 1, what))

    def __call__(self, name: str, model: schema.Model, policy_file: PolicyFile, /) -> Supply:
        """Return the artifacts of model *name*, and why others can't be had.

        Raises:
            ArtifactError: The source can't be read, exported, or was not exported faithfully.
            MissingExtraError: What exports it is not installed, nor was it fetched.
        """
        subject = self._subject(name, model, policy_file)
        source = subject.artifact
        stored = Stored(source.format, source.precision)
        wanted = conversions(name, policy_file.policy, self.host, self.installed, stored)
        artifacts, refused = [source], {}
        labels = class_names(model, [source])
        trial = Trial(name, policy_file, source.signature, subject.ask, labels)
        for number, (backend, precision) in enumerate(wanted):
            self._tell(number, len(wanted), f"{name}: {precision} for {backend}")
            try:
                outcome = self._converted(subject, trial, backend, precision)
            except ScanflowError as error:
                outcome = Refusal("failed", str(error))
            if isinstance(outcome, Refusal):
                refused[backend, precision] = outcome
            else:
                artifacts.append(outcome)
        return Supply(tuple(artifacts), refused)

    def _subject(self, name: str, model: schema.Model, policy_file: PolicyFile) -> _Subject:
        if lies_beside(model.source):
            artifact = ingest(name, model, policy_file)
            digest = artifact.manifest.source_digest
            return _Subject(
                name, model, policy_file, artifact, digest, lambda rows: answers(artifact, rows)
            )
        origin = origin_of(name, model, policy_file, memory_mb=self.limits.memory_mb)
        digest = origin.digest()
        artifact = self._own_form(name, model, policy_file, origin, digest)

        def ask(rows: Tensors) -> Tensors:
            try:
                return origin.reference(rows)
            except MissingExtraError:  # its own form was verified against it elsewhere
                return answers(artifact, rows)

        return _Subject(name, model, policy_file, artifact, digest, ask)

    def _own_form(
        self,
        name: str,
        model: schema.Model,
        policy_file: PolicyFile,
        origin: Origin,
        digest: str,
    ) -> Artifact:
        lineage = origin.lineage.address if origin.lineage is not None else ""
        if origin.kind in ("onnx", "openvino"):
            path = origin.export(Path()).path
            artifact = file_artifact(name, path, path.parent, source=model.source)
            manifest = replace(artifact.manifest, source_digest=digest, lineage=lineage)
            return replace(artifact, manifest=manifest)
        try:
            tools = {**origin.tools(), **routes.versions(())}
        except MissingExtraError as error:
            wanted = Wanted(name, digest, "fp32", lineage)
            ready = self._ready.find(wanted, policy_file, str(error))
            if isinstance(ready, Refusal):
                raise ArtifactError(ready.reason) from None
            return ready
        given = {"inputs": model.model_dump(mode="json", include={"inputs"})["inputs"]}
        options = {**given, **_judged_by(model, policy_file)}
        key = artifact_key(digest, [EXPORT], options, tools)

        def make(folder: Path) -> Made | Refused:
            self._tell(0, 1, f"{name}: {origin.kind} to ONNX")
            start = time.monotonic()
            exported = origin.export(folder)
            seconds = time.monotonic() - start
            artifact = file_artifact(name, exported.path, folder, source=model.source)
            manifest = Manifest(
                source=model.source,
                source_digest=digest,
                route=(EXPORT,),
                tools=tools,
                options=options,
                durations_s={EXPORT: seconds},
                lineage=lineage,
                weights=shares(artifact),
                labels=_telling(exported.labels),
            )
            labels = class_names(model, [replace(artifact, manifest=manifest)])
            trial = Trial(name, policy_file, artifact.signature, origin.reference, labels)
            return _verified(artifact, manifest, trial)

        outcome = self.store.publish(key, make)
        if isinstance(outcome, Refused):
            raise ArtifactError(
                f"Model {name!r}: its export to ONNX must answer as {model.source} does: "
                f"{outcome.refusal.reason}."
            )
        return replace(outcome, model=name)

    def _converted(
        self, subject: _Subject, trial: Trial, backend: str, precision: str
    ) -> Artifact | Refusal:
        name, policy_file, source = subject.name, subject.policy_file, subject.artifact
        goal = Form(FORMATS[backend], precision)
        features = frozenset(self.host.cpu.features)
        rows = _calibration_rows(policy_file, source)
        steps = routes.route(
            Form(source.format, source.precision),
            goal,
            installed=installed_tools(),
            data=rows is not None,
            features=features | {d.name for d in devices(backend, self.host.accelerators).values()},
        )
        if isinstance(steps, Refusal):
            if steps.code != "not_installed":
                return steps
            lineage = source.manifest.lineage
            wanted = Wanted(name, subject.digest, precision, lineage, goal.format)
            return self._ready.find(wanted, policy_file, steps.reason)
        context = Context(rows=rows, features=features)
        options = _told(steps, context, policy_file) | _judged_by(subject.model, policy_file)
        own = source.manifest
        tools = {**own.tools, **routes.versions(steps)} if own.route else routes.versions(steps)
        route = (*own.route, *(step.name for step in steps))
        key = artifact_key(subject.digest, route, options, tools)

        def make(folder: Path) -> Made | Refused:
            start = time.monotonic()
            path = runner.convert(
                steps, source.path, folder, context, limits=self.limits, progress=self.progress
            )
            seconds = time.monotonic() - start
            artifact = file_artifact(name, path, folder, source=subject.model.source)
            weights = shares(artifact)
            manifest = Manifest(
                source=subject.model.source,
                source_digest=subject.digest,
                route=route,
                tools=tools,
                options=options,
                effective={backend: effective(precision, weights)},
                durations_s={**own.durations_s, "convert": seconds},
                lineage=own.lineage,
                weights=weights,
                labels=own.labels,
            )
            return _verified(replace(artifact, precision=precision), manifest, trial)

        outcome = self.store.publish(key, make)
        return outcome.refusal if isinstance(outcome, Refused) else replace(outcome, model=name)

    def _tell(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress(done, total, what)


def lies_beside(source: str) -> bool:
    """Return whether *source* is an ONNX file or OpenVINO IR beside the policy."""
    return not re.match(r"[a-z]\w+:", source) and Path(source).suffix.lower() in SUFFIXES


def _verified(artifact: Artifact, manifest: Manifest, trial: Trial) -> Made | Refused:
    start = time.monotonic()
    verdict = trial.judge(artifact)
    durations = {**manifest.durations_s, "verify": time.monotonic() - start}
    manifest = replace(manifest, verification=verdict.figures, durations_s=durations)
    form = (artifact.model, artifact.format, artifact.precision)
    if verdict.refusal is not None:
        return Refused(*form, verdict.refusal, manifest)
    return Made(*form, (artifact.path, *artifact.data), artifact.signature, manifest)


def _telling(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return *labels*, None where they only count from 0: an index says as much."""
    counted = labels is not None and labels == tuple(map(str, range(len(labels))))
    return None if counted else labels


def _calibration_rows(policy_file: PolicyFile, source: Artifact) -> Tensors | None:
    data = policy_file.policy.calibration
    if data is None:
        return None
    return fitted(source.signature, validation.load_rows(data, policy_file))


def origin_of(
    name: str, model: schema.Model, policy_file: PolicyFile, *, memory_mb: float | None = None
) -> Origin:
    """Return where model *name* comes from; data of the policy tell shapes that nothing else does.

    Args:
        memory_mb: What loading it may take; default: what this host grants.

    Raises:
        ScanflowError: There is no such model, or what fetches it is not installed.
    """
    policy = policy_file.policy
    data = policy.calibration or policy.validation
    sample = validation.load_rows(data, policy_file).inputs if data is not None else None
    return find_origin(name, model, policy_file, sample=sample, memory_mb=memory_mb)


def _told(steps: tuple[Step, ...], context: Context, policy_file: PolicyFile) -> dict[str, Any]:
    """Return what the steps' outcome depends on besides the source."""
    fed = any(step.data for step in steps) and context.rows is not None
    return {
        **Options.to_json(context.options),
        "calibration": _data(policy_file.policy.calibration, policy_file) if fed else None,
        "saturates": context.saturates,
        "arm": bool(context.features & {"neon", "asimd", "asimddp"}),
    }


def _judged_by(model: schema.Model, policy_file: PolicyFile) -> dict[str, Any]:
    """Return what a verdict depends on, so that a refusal does not outlive its reasons."""
    rules = policy_file.policy.validation
    given = rules or policy_file.policy.calibration
    return {
        "verification": _data(given, policy_file),
        "judged": model.model_dump(mode="json", include={"max_accuracy_drop", "output", "labels"}),
    }


def _data(data: schema.Data | None, policy_file: PolicyFile) -> dict[str, Any] | None:
    if data is None:
        return None
    digest = file_digest(policy_file.resolve(data.data))
    return {**data.model_dump(mode="json", exclude={"data"}), "sha256": digest}
