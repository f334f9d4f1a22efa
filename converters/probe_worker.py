"""The child process that runs an artifact of which nobody knows yet what it does."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.converters.origins.in_child import (
    RESULT,
    begin,
    read_tensors,
    write_tensors,
)
from scanflow_serve.converters.probe import INPUTS, OUTPUTS
from scanflow_serve.converters.sources import model_files
from scanflow_serve.converters.verification import TOLERANCES, verify
from scanflow_serve.policies.errors import ArtifactError, BackendError, ScanflowError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.calibration import rows
from scanflow_serve.runtime.tensors import Signature, Tensors

ROWS = 32
PROBE_BYTES = 4 * 2**20  # of generated rows at most: they travel with every artifact
READ_BYTES = 64 * 2**20  # of somebody else's rows or answers at most


@dataclass(frozen=True, slots=True)
class _Opened:
    """A backend that loaded the artifact, and the precision that it executes."""

    backend: str
    precision: str


def main() -> None:
    """Do the job on stdin; leave the outcome as ``result.json`` in its folder."""
    job = begin()
    artifact = Artifact.from_json(job["artifact"])
    probe = Path(job["probe"]) if job["probe"] else None
    result: dict[str, Any] = {}
    try:
        model_files(artifact.model, artifact.path, artifact.path.parent)  # stays in its folder
        if job["action"] == "record" and probe is not None:
            _record(artifact, job["backends"], probe)
        else:
            _hold(artifact, job["backends"], probe)
    except ScanflowError as error:
        result = {"error": str(error)}
    (Path(job["folder"]) / RESULT).write_text(json.dumps(result))


def _record(artifact: Artifact, backends: Iterable[str], folder: Path) -> None:
    inputs = _generated(artifact.signature)
    _, outputs = next(_answers(artifact, backends, inputs))
    write_tensors(folder / INPUTS, inputs)
    write_tensors(folder / OUTPUTS, outputs)


def _hold(artifact: Artifact, backends: Iterable[str], folder: Path | None) -> None:
    inputs = _read(folder / INPUTS) if folder else _generated(artifact.signature)
    recorded = _read(folder / OUTPUTS) if folder else None
    for opened, outputs in _answers(artifact, backends, inputs):
        if recorded is not None:
            _compare(opened, recorded, outputs)


def _answers(
    artifact: Artifact, backends: Iterable[str], inputs: Tensors
) -> Iterator[tuple[_Opened, Tensors]]:
    """Yield the backends that load the artifact, one or more, each with what it answers.

    One may lack an operator if another has it; none may answer otherwise than the signature says.
    """
    faults: list[str] = []
    held = False
    for name in backends:
        try:
            session = _open(artifact, name)
        except BackendError as error:
            faults.append(str(error))
            continue
        outputs = session.run(inputs)
        _hold_to_signature(name, artifact.signature, outputs, len(next(iter(inputs.values()))))
        held = True
        yield _Opened(name, session.precision), outputs
        session.close()
    if not held:
        raise ArtifactError(" ".join(faults))


def _open(artifact: Artifact, name: str) -> Session:
    """Return a session in the precision it was verified in, else as stored, else in fp32.

    Raises:
        BackendError: The backend can't load it.
    """
    backend = registry.backend(name)
    stored = artifact.precision
    verified = artifact.manifest.effective.get(name, stored)
    refusals: list[BackendError] = []
    for precision in dict.fromkeys((verified, stored, "fp32")):
        try:
            return backend.open(artifact, precision=precision, device="CPU", threads=1)
        except BackendError as error:
            refusals.append(error)
    raise refusals[0]


def _generated(signature: Signature) -> Tensors:
    row = sum(
        math.prod(rows.OPEN_DIMENSION if n is None else n for n in spec.shape[1:])
        * spec.numpy_dtype.itemsize
        for spec in signature.inputs
    )
    count = signature.fixed_batch or max(1, min(ROWS, PROBE_BYTES // max(1, row)))
    if count * row > READ_BYTES:  # a signature is somebody else's, too
        raise ArtifactError(f"a batch must take <= {READ_BYTES} B, got {count * row}.")
    return rows.generate(signature, count)


def _read(path: Path) -> Tensors:
    """Return the tensors in *path*, which may be a zip bomb.

    Raises:
        ArtifactError: It is missing, too large, or not what `record` writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > READ_BYTES:
            raise ArtifactError(f"{path.name} of the probe must have <= {READ_BYTES} B, got {size}")
        return read_tensors(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path.name} of the probe must hold recorded tensors, got "
            f"{type(error).__name__}: {error}. Publish the artifact again."
        ) from None


def _hold_to_signature(name: str, signature: Signature, outputs: Tensors, count: int) -> None:
    for spec in signature.outputs:
        array = outputs.get(spec.name)
        wanted = (count, *spec.shape[1:])
        if array is None or array.dtype != spec.numpy_dtype or not _fits(array.shape, wanted):
            found = "none" if array is None else f"{array.dtype} {list(array.shape)}"
            form = f"{spec.dtype} {['any' if n is None else n for n in wanted]}"
            raise ArtifactError(f"on {name}: output {spec.name!r} must be {form}, got {found}.")
        if array.dtype.kind == "f" and (lost := int(np.count_nonzero(~np.isfinite(array)))):
            text = f"on {name}: output {spec.name!r} must be finite, got {lost} NaN or Inf"
            raise ArtifactError(f"{text} for generated rows.")


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    same = (n is None or n == found for found, n in zip(shape, wanted, strict=False))
    return len(shape) == len(wanted) and all(same)


def _compare(opened: _Opened, recorded: Tensors, outputs: Tensors) -> None:
    precision = opened.precision if opened.precision in TOLERANCES else "int8"
    refusal = verify(recorded, outputs, precision=precision).refusal
    if refusal is not None:
        raise ArtifactError(
            f"on {opened.backend}, against what it answered where made: {refusal.reason}"
        )


if __name__ == "__main__":
    main()
