"""Runs the steps of a route, each in a child process that may crash, hang or grow."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.memory import allowance_mb, exhausted, is_exhausted
from scanflow_serve.converters.routes import Step
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.process import Ending, run_module
from scanflow_serve.runtime.tensors import Tensors

WORKER = "scanflow_serve.converters.worker"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step may take.

    Attributes:
        timeout_s: Wall clock.
        memory_mb: Memory of its own, in MiB, weights and libraries (0.4 GB for NNCF) included.
            Default: what this host grants, less a reserve.
    """

    timeout_s: float = 900.0
    memory_mb: float = field(default_factory=allowance_mb)


def convert(
    route: Sequence[Step],
    source: Path,
    folder: Path,
    context: Context,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the file in *folder* that the steps of *route* make of *source*, one after another.

    Args:
        folder: An existing folder; the file's companions (weights) lie there too, nothing else.
        progress: Called with the number of steps done, of all, and the name of the next.

    Raises:
        ArtifactError: A step can't convert its source, crashed, or went over *limits*. *folder*
            is as it was.
        ValueError: *route* is empty: the source is what was asked for.
    """
    if not route:
        raise ValueError("a route must have a step, got none: serve the source as it stands")
    limits = limits or Limits()
    # Beside the goal, so that the result is moved and not copied.
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder) as scratch:
        work = Path(scratch)
        rows = _write_rows(work, context.rows) if any(step.data for step in route) else None
        job = _Job(source, rows, context, limits)
        made = source
        for number, step in enumerate(route):
            if progress:
                progress(number, len(route), step.name)
            place = work / f"{number}"
            place.mkdir()
            made = _run(step, made, place, job)
        for file in sorted(made.parent.iterdir()):
            os.replace(file, folder / file.name)
            made = made if file.name != made.name else folder / file.name
    return made


@dataclass(frozen=True, slots=True)
class _Job:
    """What the steps of one route share."""

    source: Path
    rows: Path | None
    context: Context
    limits: Limits


def _run(step: Step, source: Path, folder: Path, job: _Job) -> Path:
    result = folder.parent / f"{folder.name}.json"
    ending = run_module(
        WORKER,
        {
            "function": step.function,
            "source": str(source.resolve()),
            "folder": str(folder),
            "result": str(result),
            "rows": str(job.rows) if step.data and job.rows else None,
            "features": sorted(job.context.features),
            "options": job.context.options.to_json(),
            "memory_mb": job.limits.memory_mb,
        },
        timeout_s=job.limits.timeout_s,
    )
    try:
        told = json.loads(result.read_text())
    except FileNotFoundError:
        raise _failure(step, job.source, ending, job.limits) from None
    if "path" in told:
        return Path(told["path"])
    if "memory" in told or is_exhausted(told["error"]):
        raise exhausted(f"{job.source}: step {step.name!r}", job.limits.memory_mb)
    # A person knows the file that they gave, not the one that an earlier step has made of it.
    raise ArtifactError(told["error"].replace(str(source.resolve()), str(job.source)))


def _failure(step: Step, source: Path, ending: Ending, limits: Limits) -> ArtifactError:
    if is_exhausted(ending.last_line):
        return exhausted(f"{source}: step {step.name!r}", limits.memory_mb)
    return ArtifactError(f"{source}: step {step.name!r} {ending}.")


def _write_rows(folder: Path, rows: Tensors | None) -> Path | None:
    if rows is None:
        return None
    path = folder / "rows.npz"
    # A prefix, because savez has parameters of its own that a name could be.
    np.savez(path, allow_pickle=False, **{f"_{name}": array for name, array in rows.items()})
    return path
