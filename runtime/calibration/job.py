"""What the calibrating process asks of its child, and what the child leaves behind."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Policy
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.calibration.benchmark import Effort
from scanflow_serve.runtime.measurements import Measurement, Refusal
from scanflow_serve.runtime.tensors import OutputKind, Tensors
from scanflow_serve.runtime.variants import Candidate


@dataclass(frozen=True, slots=True)
class Job:
    """One child's work.

    Attributes:
        candidates: They differ only in threads; the first has the most.
        artifacts: By model name, of all models that the run's slots name; see `Supply.artifacts`.
        cores: That the server has.
        kinds: Of models' classification outputs, as far as they are known.
        folder: Where the child writes a result per candidate, as soon as it has it.
    """

    policy_file: PolicyFile
    candidates: tuple[Candidate, ...]
    artifacts: Mapping[str, Sequence[Artifact]]
    effort: Effort
    folder: Path
    cores: int
    kinds: Mapping[str, OutputKind] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        file = self.policy_file
        return {
            "policy": file.policy.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "path": str(file.path),
            "policy_folder": str(file.folder),
            "text": file.text,
            "digest": file.digest,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "artifacts": {
                k: [item.to_json() for item in each] for k, each in self.artifacts.items()
            },
            "effort": asdict(self.effort),
            "folder": str(self.folder),
            "cores": self.cores,
            "kinds": dict(self.kinds),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        """Return the job whose JSON form is *value*."""
        return cls(
            policy_file=PolicyFile(
                policy=Policy.model_validate(value["policy"]),
                path=Path(value["path"]),
                folder=Path(value["policy_folder"]),
                text=value["text"],
                digest=value["digest"],
            ),
            candidates=tuple(Candidate.from_json(item) for item in value["candidates"]),
            artifacts={
                name: tuple(Artifact.from_json(item) for item in items)
                for name, items in value["artifacts"].items()
            },
            effort=Effort(**value["effort"]),
            folder=Path(value["folder"]),
            cores=value["cores"],
            kinds=value["kinds"],
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one candidate: figures and outputs, or why there are none."""

    measurement: Measurement | None = None
    refusal: Refusal | None = None
    outputs: Tensors | None = None


def write_result(path: Path, result: Result) -> None:
    """Write *result* as ``PATH.json`` and ``PATH.npz``; a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if result.outputs is not None:
        partial = path.with_suffix(f".{os.getpid()}.npz")
        arrays: dict[str, Any] = {f"_{k}": _plain(a) for k, a in result.outputs.items()}
        np.savez(partial, **arrays)
        partial.replace(path.with_suffix(".npz"))
    value = {
        "measurement": result.measurement and result.measurement.to_json(),
        "refusal": result.refusal and asdict(result.refusal),
    }
    partial = path.with_suffix(f".{os.getpid()}.json")
    partial.write_text(json.dumps(value))
    partial.replace(path.with_suffix(".json"))


def read_result(path: Path) -> Result:
    """Return the result that `write_result` wrote to *path*.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is corrupt.
    """
    try:
        value = json.loads(path.with_suffix(".json").read_bytes())
        if value["measurement"] is None:
            return Result(refusal=Refusal(**value["refusal"]))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            outputs = {name[1:]: _typed(file[name]) for name in file.files}
        return Result(measurement=Measurement.from_json(value["measurement"]), outputs=outputs)
    except FileNotFoundError:
        raise
    except Exception as error:  # json, zip, npy and field errors share no other base
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error


def _plain(array: Any) -> Any:
    """Return text as numpy's fixed-width kind: objects would need pickle."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _typed(array: Any) -> Any:
    return array.astype(object) if array.dtype.kind == "U" else array
