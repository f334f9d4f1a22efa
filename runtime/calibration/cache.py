"""Measurements kept between starts, and shared between policies on one host."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact, file_digest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.calibration.job import Result, read_result, write_result
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.supply import artifact_for
from scanflow_serve.runtime.tensors import OutputKind
from scanflow_serve.runtime.variants import Candidate
from scanflow_serve.runtime.workflow import graph

FORMAT = 4  # raised when what is measured changes its meaning
KEPT_REFUSALS = ("unsupported",)  # a crash or a timeout may pass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeasurementCache:
    """Results in a folder, a file each, named by the hash of all that they depend on."""

    folder: Path

    def get(self, key: str) -> Result | None:
        """Return the result under *key*; None if there is none that can be read."""
        try:
            return read_result(self.folder / key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("Measurement ignored, it is made again: %s", error)
            return None

    def put(self, key: str, result: Result) -> None:
        """Keep *result*, unless it tells of a failure that may pass."""
        if result.refusal is not None and result.refusal.code not in KEPT_REFUSALS:
            return
        try:
            write_result(self.folder / key, result)
        except OSError as error:
            _warn_once(self.folder, error.strerror or str(error))


@functools.cache
def _warn_once(folder: Path, cause: str) -> None:
    """Say that nothing is kept in *folder*: once, though every result fails alike."""
    log.warning(
        "%s: measurements can't be kept, they are made again at the next start, got %r. "
        "Set SCANFLOW_CACHE to a folder that can be written.",
        folder,
        cause,
    )


def cache_key(
    policy_file: PolicyFile,
    host: HostProfile,
    candidate: Candidate,
    artifacts: Mapping[str, Sequence[Artifact]],
    kinds: Mapping[str, OutputKind],
) -> str:
    """Return the hash of what the measurement of *candidate* depends on.

    Host, artifacts, versions of the tools, the run's steps and the code they call, validation
    data, and the batch sizes; but not names of the policy that change no figure.
    """
    policy = policy_file.policy
    alternative = graph.alternative(policy, candidate.run)
    nodes = graph.nodes(policy, alternative)
    slots = graph.slots(policy, alternative)
    models = sorted({name for slot in slots for name in slot.models})
    shared = {name for slot in slots if len(slot.models) > 1 for name in slot.models}
    validation = policy.validation
    depends: dict[str, Any] = {
        "format": FORMAT,
        "host": host.fingerprint,
        "candidate": candidate.to_json(),
        "artifacts": {name: artifacts[name][0].id for name in models if name in artifacts},
        "files": [artifact_for(v, artifacts[v.model]).id for v in candidate.variants],
        "models": {
            name: policy.models[name].model_dump(mode="json", include={"output", "kind", "labels"})
            for name in models
        },
        "kinds": {name: kinds[name] for name in shared if name in kinds},  # what may be converted
        "tools": _tools(candidate),
        "steps": repr(nodes),
        "code": _code_digest(policy_file) if _calls_code(nodes) else "",
        "validation": validation and validation.model_dump(mode="json"),
        "data": validation and file_digest(policy_file.resolve(validation.data)),
        "max_batch": policy.scheduling.max_batch,
        "deadline_ms": policy.default_deadline_ms,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def _calls_code(nodes: Sequence[graph.Node]) -> bool:
    """Return whether a function of the user's runs among *nodes*."""
    return any(
        isinstance(node, graph.Call)
        or (
            isinstance(node, graph.Fork)
            and (":" in (node.combine or "") or any(map(_calls_code, node.branches)))
        )
        for node in nodes
    )


def _tools(candidate: Candidate) -> dict[str, str]:
    """Return the versions that figures depend on, from metadata: nothing is imported."""
    backends = sorted({variant.backend for variant in candidate.variants})
    own = {name: registry.version(name) for name in ("numpy", "scanflow-serve")}
    return own | {
        name: registry.version(*registry.BACKENDS[name].distributions) for name in backends
    }


def _code_digest(policy_file: PolicyFile) -> str:
    """Return the hash of the Python files beside the policy: steps may import one another."""
    files = sorted(policy_file.folder.glob("*.py")) + sorted(policy_file.folder.glob("*/*.py"))
    lines = (f"{file.relative_to(policy_file.folder)} {file_digest(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
