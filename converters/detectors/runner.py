"""Trains a detector in a child process that may crash, hang or grow, and tells how far it is."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.converters.memory import exhausted, is_exhausted
from scanflow_serve.converters.runner import Limits
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError
from scanflow_serve.runtime.checks.recipes import Recipe
from scanflow_serve.runtime.process import run_module
from scanflow_serve.runtime.tensors import Array

WORKER = "scanflow_serve.converters.detectors.worker"
FILE = "detector.onnx"
LOOK_EVERY_S = 0.2
NEEDED = ("torch", "onnx", "onnxscript")  # of the extra convert

Progress = Callable[[int, int, str], None]


def train_detector(
    where: str,
    made_by: Recipe,
    windows: Array,
    folder: Path,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> tuple[Path, Mapping[str, Any]]:
    """Return the ONNX file in *folder* of a detector trained on *windows*, and its figures.

    Args:
        where: For errors, such as ``checks[1].drift``.
        windows: The fit split, shape (windows, steps, features), float32.
        folder: An existing folder; nothing else is left there.
        progress: Called with the number of epochs done, at most, and what was reached.

    Raises:
        MissingExtraError: torch is not installed.
        ArtifactError: The data can't be learned, or the child crashed or went over *limits*.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise MissingExtraError(f"{where}: torch, which trains {made_by.method},", "convert")
    limits = limits or Limits()
    path = folder / FILE
    with tempfile.TemporaryDirectory(prefix=".training-", dir=folder) as scratch:
        work = Path(scratch)
        np.save(work / "windows.npy", np.ascontiguousarray(windows, np.float32))
        job = {
            "recipe": made_by.to_json(),
            "windows": str(work / "windows.npy"),
            "path": str(path),
            "result": str(work / "result.json"),
            "progress": str(work / "progress.json"),
            "memory_mb": limits.memory_mb,
        }
        with _followed(work / "progress.json", progress):
            ending = run_module(WORKER, job, timeout_s=limits.timeout_s)
        try:
            told = json.loads((work / "result.json").read_text())
        except FileNotFoundError:
            if is_exhausted(ending.last_line):
                raise exhausted(where, limits.memory_mb) from None
            raise ArtifactError(f"{where}: training of {made_by.method} {ending}.") from None
    if "memory" in told or is_exhausted(told.get("error", "")):
        raise exhausted(where, limits.memory_mb)
    if "error" in told:
        raise ArtifactError(f"{where}: {told['error']}")
    return path, told


@contextmanager
def _followed(path: Path, progress: Progress | None) -> Iterator[None]:
    """Pass on what the child writes to *path*, until the block ends."""
    if progress is None:
        yield
        return
    over = threading.Event()

    def follow() -> None:
        last: Any = None
        while not over.wait(LOOK_EVERY_S):
            with suppress(OSError, ValueError):
                told = json.loads(path.read_text())
                if told != last:
                    progress(*told)
                    last = told

    thread = threading.Thread(target=follow, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
