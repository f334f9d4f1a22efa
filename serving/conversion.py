"""Converts every model of a policy and says what came of it: files, figures here, verdicts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scanflow_serve.converters.make import FORMATS, Maker
from scanflow_serve.converters.verification import Verification, verify
from scanflow_serve.policies.errors import ScanflowError, StateError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Variants
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.calibration.calibrate import Calibration, calibrate
from scanflow_serve.runtime.candidates import (
    Option,
    Stored,
    conversions,
    references_of,
    variants_of,
)
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement, Refusal
from scanflow_serve.runtime.supply import Supply, artifact_for
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow.graph import model_alternative
from scanflow_serve.serving.progress import Progress

MB = 2**20
NOTHING_TO_COMPARE = Refusal("verification", "no backend here runs the source's own form")


@dataclass(frozen=True, slots=True)
class Result:
    """One variant: its file, what it shows here, and whether it may be served.

    Attributes:
        artifact: None where there is none.
        p50_ms: Of one row, on this host; None where it was not measured.
        speed_up: p50 of the source's own form over `p50_ms`, as served on this host.
        drop: Accuracy that it loses against the source's own form.
        refusal: None if it may be served.
    """

    variant: Variant
    artifact: Artifact | None = None
    p50_ms: float | None = None
    speed_up: float | None = None
    accuracy: float | None = None
    drop: float | None = None
    agreement: float | None = None
    refusal: Refusal | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        found = self.artifact
        return {
            "variant": self.variant.id,
            "key": found and found.id,
            "path": found and str(found.path),
            "size_mb": found and found.size_bytes / MB,
            "weights": found and dict(found.manifest.weights),
            "p50_ms": self.p50_ms,
            "speed_up": self.speed_up,
            "accuracy": self.accuracy,
            "drop": self.drop,
            "agreement": self.agreement,
            "refusal": self.refusal and self.refusal.to_json(),
        }


def restricted(
    policy_file: PolicyFile, precisions: Sequence[str], backends: Sequence[str]
) -> PolicyFile:
    """Return the policy with all models limited to what is asked for; empty: as they say."""
    models = {}
    for name, model in policy_file.policy.models.items():
        wanted = model.variants or Variants()
        update: dict[str, Any] = {"precisions": list(precisions)} if precisions else {}
        update |= {"backends": list(backends)} if backends else {}
        models[name] = model.model_copy(update={"variants": wanted.model_copy(update=update)})
    policy = policy_file.policy.model_copy(update={"models": models})
    return replace(policy_file, policy=policy)


def convert(
    policy_file: PolicyFile, host: HostProfile, *, here: bool, progress: Progress | None
) -> list[Result]:
    """Return what came of every variant of every model; nothing is measured unless *here*.

    Args:
        host: That is to run them.
        here: It is this one.
    """
    installed = {
        name: registry.installed(name) if here else name in FORMATS for name in registry.BACKENDS
    }
    maker = Maker(host, installed=installed, progress=progress)
    results: list[Result] = []
    for name, model in policy_file.policy.models.items():
        try:
            supply = maker(name, model, policy_file)
        except ScanflowError as error:
            variants = variants_of(name, policy_file.policy, host, installed, Stored())
            failure = Refusal("failed", str(error))
            results += [Result(each.variant, refusal=failure) for each in variants]
            continue
        results += _results(name, policy_file, host, supply, installed, here, progress)
    return results


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """Copy the converted files into *folder*, one folder each, and return these.

    Raises:
        StateError: It can't be written.
    """
    written: list[Path] = []
    for result in results:
        artifact = result.artifact
        if artifact is None or result.refusal is not None:
            continue
        place = folder / f"{artifact.model}-{artifact.format}-{artifact.precision}"
        if place in written:
            continue
        try:
            place.mkdir(parents=True, exist_ok=True)
            for file in _files(artifact):
                shutil.copy2(file, place / file.name)
        except OSError as error:
            raise StateError(
                f"{place}: must be writable, got {error.strerror!r}. Choose another folder by -o."
            ) from error
        written.append(place)
    return written


def _files(artifact: Artifact) -> Iterator[Path]:
    yield from (artifact.path, *artifact.data)
    manifest = artifact.path.parent / "manifest.json"
    if manifest.is_file():
        yield manifest


def _results(
    name: str,
    policy_file: PolicyFile,
    host: HostProfile,
    supply: Supply,
    installed: Mapping[str, bool],
    here: bool,
    progress: Progress | None,
) -> list[Result]:
    policy, source = policy_file.policy, supply.artifacts[0]
    stored = Stored(source.format, source.precision)
    wanted = conversions(name, policy, host, installed, stored)
    stored = replace(stored, converted={each: supply.refused.get(each) for each in wanted})
    options = variants_of(name, policy, host, installed, stored)
    if not here:
        return [_unmeasured(option, supply) for option in _by_form(options)]
    references = references_of(name, options, installed, stored)
    run = model_alternative(name).name
    able = [option.variant for option in options if option.refusal is None]
    tried = [Candidate(run, (variant,)) for variant in dict.fromkeys((*references[:1], *able))]
    found = calibrate(
        policy_file,
        host,
        tried,
        {name: supply.artifacts},
        budget_s=policy.measurement.budget_s,
        progress=progress,
    )
    judge = _Judge(found, Candidate(run, references[:1]), policy.models[name].max_accuracy_drop)
    return [
        _unmeasured(option, supply)
        if option.refusal is not None
        else judge(Candidate(run, (option.variant,)), supply)
        for option in options
    ]


def _by_form(options: Sequence[Option]) -> Iterator[Option]:
    """Yield one option for each file and precision: without figures, threads make no difference."""
    seen: set[Variant] = set()
    for option in options:
        form = replace(option.variant, threads=1)
        if form not in seen:
            seen.add(form)
            yield replace(option, variant=form)


def _unmeasured(option: Option, supply: Supply) -> Result:
    if option.refusal is not None:
        return Result(option.variant, refusal=option.refusal)
    artifact = artifact_for(option.variant, supply.artifacts)
    figures = artifact.manifest.verification
    accuracy = figures.get("accuracy", {})
    agreements = [each.get("agreement") for each in figures.values() if isinstance(each, Mapping)]
    known = [each for each in agreements if each is not None]
    cast = artifact.precision != option.variant.precision
    return Result(
        option.variant,
        artifact,
        accuracy=None if cast else accuracy.get("converted"),
        drop=None if cast else accuracy.get("drop"),
        agreement=None if cast else min(known, default=None),
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """Holds measured candidates to the source's own form, as `prepare` does."""

    found: Calibration
    reference: Candidate
    allowed_drop: float

    def __call__(self, candidate: Candidate, supply: Supply) -> Result:
        variant = candidate.variants[0]
        artifact = artifact_for(variant, supply.artifacts)
        measured = self.found.measured.get(candidate.id)
        source = self.found.measured.get(self.reference.id)
        if measured is None or source is None:
            refused = self.found.refused
            lost = refused.get(candidate.id) or refused.get(self.reference.id) or NOTHING_TO_COMPARE
            return Result(variant, artifact, refusal=lost)
        compared = verify(
            self.found.outputs[self.reference.id],
            self.found.outputs[candidate.id],
            precision=variant.precision,
        )
        drop = _drop(source, measured)
        p50 = _p50(measured)
        return Result(
            variant,
            artifact,
            p50_ms=p50,
            speed_up=_p50(source) / p50,
            accuracy=measured.accuracy,
            drop=drop,
            agreement=_agreement(compared),
            refusal=compared.refusal or self._loss(drop),
        )

    def _loss(self, drop: float | None) -> Refusal | None:
        if drop is None or drop <= self.allowed_drop + 1e-9:
            return None
        return Refusal(
            "verification",
            f"loses {drop:.3g} of accuracy, max_accuracy_drop allows {self.allowed_drop:g}",
        )


def _drop(source: Measurement, measured: Measurement) -> float | None:
    if source.accuracy is None or measured.accuracy is None:
        return None
    return source.accuracy - measured.accuracy


def _p50(measured: Measurement) -> float:
    return measured.latency[min(measured.latency)].p50_ms


def _agreement(compared: Verification) -> float | None:
    known = [each.agreement for each in compared.figures.values() if each.agreement is not None]
    return min(known, default=None)
