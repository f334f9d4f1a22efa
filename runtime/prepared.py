"""A plan with all that serving it needs, and how it is kept in the state folder.

A serving process reads it back in milliseconds: nothing is profiled, hashed or measured again
unless a model file changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanflow_serve.policies.errors import ArtifactError, StateError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.artifacts import Artifact, file_digest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurements
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.tensors import OutputKind

FILE = "plan.json"
FORMAT = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` found out.

    Attributes:
        artifacts: By model name, of the models that the target's runs name; see
            `Supply.artifacts`.
        measurements: Of all candidates, and of single models (``model:NAME:VARIANT``).
        kinds: Model name -> what its classification output holds.
    """

    policy_file: PolicyFile
    host: HostProfile
    plan: Plan
    artifacts: Mapping[str, tuple[Artifact, ...]]
    measurements: Measurements
    kinds: Mapping[str, OutputKind]


def save(prepared: Prepared, state: Path) -> Path:
    """Write *prepared* into the folder *state*, whole or not at all; return the file's path.

    Raises:
        StateError: It can't be written.
    """
    path = state / FILE
    document = {
        "format": FORMAT,
        "policy": str(prepared.policy_file.path.absolute()),
        "digest": prepared.policy_file.digest,
        "tools": _tools(),
        "host": prepared.host.to_json(),
        "plan": prepared.plan.to_json(),
        "artifacts": {
            name: [_with_stamp(a) for a in each] for name, each in prepared.artifacts.items()
        },
        "measurements": prepared.measurements.to_json(),
        "kinds": dict(prepared.kinds),
    }
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        state.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise StateError(
            f"{path}: must be writable, got {error.strerror!r}. Choose another folder by --state."
        ) from error
    return path


def load(state: Path, *, policy_file: PolicyFile | None = None) -> Prepared:
    """Return what `save` wrote into the folder *state*.

    Args:
        policy_file: Default: the file that the plan was made from, read again.

    Raises:
        StateError: There is no plan, or policy, backends or models are no longer those that it
            was made for; the caller may then prepare again.
        PolicyError: The policy file has faults by now.
    """
    path = state / FILE
    document = _read(path)
    if policy_file is None:
        policy_file = load_policy(Path(document["policy"]))
    _require_same(path, "policy", document["digest"], policy_file.digest)
    _require_same(path, "tools", document["tools"], _tools())
    try:
        stamped = document["artifacts"].items()
        return Prepared(
            policy_file=policy_file,
            host=HostProfile.from_json(document["host"]),
            plan=Plan.from_json(document["plan"]),
            artifacts={
                name: tuple(_unchanged(path, each) for each in values) for name, values in stamped
            },
            measurements=Measurements.from_json(document["measurements"]),
            kinds=document["kinds"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable(path, f"must be a plan, got {type(error).__name__}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise _unusable(path, f"must be readable, got {error.strerror!r}") from error
    except ValueError as error:
        raise _unusable(path, f"must be JSON, got {str(error)!r}") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT or not {"policy", "digest", "tools"} <= document.keys():
        raise _unusable(path, f"must be a plan of format {FORMAT}, got {found!r}")
    return dict(document)


def _require_same(path: Path, what: str, then: object, now: object) -> None:
    if then != now:
        raise _unusable(path, f"{what} must be as it was planned for, {then!r}, got {now!r}")


def _unusable(path: Path, rule: str) -> StateError:
    return StateError(f"{path}: {rule}. Plan again: scanflow-serve run POLICY.")


def _tools() -> dict[str, str]:
    """Return the versions that measurements depend on, from metadata: nothing is imported."""
    own = {"scanflow-serve": registry.version("scanflow-serve")}
    return own | {
        name: registry.version(*entry.distributions) for name, entry in registry.BACKENDS.items()
    }


def _with_stamp(artifact: Artifact) -> dict[str, Any]:
    files = (artifact.path, *artifact.data)
    stamps = [{"file": _stamp(path), "sha256": file_digest(path)} for path in files]
    return {"artifact": artifact.to_json(), "files": stamps}


def _stamp(path: Path) -> list[int]:
    """Return size and time of change: while they stay, so did the content."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _unchanged(path: Path, value: Mapping[str, Any]) -> Artifact:
    artifact = Artifact.from_json(value["artifact"])
    for file, then in zip((artifact.path, *artifact.data), value["files"], strict=True):
        try:
            if _stamp(file) != then["file"]:
                _require_same(path, str(file), then["sha256"], file_digest(file))
        except (OSError, ArtifactError) as error:
            raise _unusable(path, f"{file} must be readable, got {error}") from error
    return artifact
