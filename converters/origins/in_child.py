"""An origin whose model is loaded in a child process only."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.converters.memory import allowance_mb, exhausted, is_exhausted
from scanflow_serve.converters.origins.code import distribution_version, module_files
from scanflow_serve.converters.origins.origin import Exported, Lineage
from scanflow_serve.converters.origins.saved import LOADERS, Loader, Saved
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError
from scanflow_serve.runtime.artifacts import file_digest
from scanflow_serve.runtime.process import bound_memory, die_with_parent, run_module
from scanflow_serve.runtime.tensors import Array, Tensors

WORKER = "scanflow_serve.converters.origins.worker"
RESULT = "result.json"
TIMEOUT_S = 1800.0  # a large network on a small board; a hang is seen by a person long before


@dataclass(frozen=True, slots=True)
class ChildOrigin:
    """A saved model; see `Origin`.

    Attributes:
        files: Everything whose bytes decide what it answers.
        memory_mb: What the child may take, in MiB.
    """

    saved: Saved
    files: tuple[Path, ...]
    lineage: Lineage | None = None
    timeout_s: float = field(default=TIMEOUT_S, kw_only=True)
    memory_mb: float = field(default_factory=allowance_mb, kw_only=True)

    @property
    def kind(self) -> str:
        """Return the loader's kind."""
        return self._loader.kind

    @property
    def _loader(self) -> Loader:
        return LOADERS[self.saved.loader]

    def digest(self) -> str:
        """Return the SHA-256 of files, factory and declared inputs."""
        lines = [self.saved.loader, self.saved.factory or ""]
        lines += [json.dumps(spec.to_json(), sort_keys=True) for spec in self.saved.inputs]
        lines += [f"{path.name} {file_digest(path)}" for path in self.files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def tools(self) -> dict[str, str]:
        """Return the versions of the loader's packages, and of an installed factory's."""
        found = {name: metadata.version(name) for name in self._packages()}
        if self.saved.factory and self.saved.folder:
            module = self.saved.factory.partition(":")[0]
            if not module_files(self.saved.folder, module):
                found |= distribution_version(module)
        return found

    def export(self, folder: Path) -> Exported:
        """Return the model as a file in *folder*, exported in a child process."""
        folder.mkdir(parents=True, exist_ok=True)
        result = self._call("export", folder)
        labels = result["labels"]
        return Exported(Path(result["path"]), tuple(labels) if labels is not None else None)

    def reference(self, inputs: Tensors) -> Tensors:
        """Return what the original answers, in a child process."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_tensors(folder / "inputs.npz", inputs)
            self._call("run", folder)
            return read_tensors(folder / "outputs.npz")

    def _packages(self) -> Mapping[str, str]:
        packages = self._loader.packages
        for name, module in packages.items():
            if importlib.util.find_spec(module) is None:
                what = f"{name}, which model source {self.kind!r} needs,"
                raise MissingExtraError(what, self._loader.extra)
        return packages

    def _call(self, action: str, folder: Path) -> dict[str, Any]:
        self._packages()
        job = {"action": action, "folder": str(folder), "saved": self.saved.to_json()}
        where = self.saved.where
        return call_worker(WORKER, job, where, folder, self.timeout_s, self.memory_mb)


def begin() -> dict[str, Any]:
    """Return the job on stdin of a child of `call_worker`, which is held to its bounds now."""
    die_with_parent()
    job: dict[str, Any] = json.load(sys.stdin)
    bound_memory(job["memory_mb"])
    return job


def call_worker(
    module: str,
    job: Mapping[str, Any],
    where: str,
    folder: Path,
    timeout_s: float,
    memory_mb: float | None = None,
) -> dict[str, Any]:
    """Return what the child process *module* leaves as ``result.json`` in *folder*.

    Args:
        memory_mb: What it may take, in MiB; default: `allowance_mb`.

    Raises:
        ArtifactError: It says so, ended without a result, or asked for more memory.
    """
    path = folder / RESULT
    path.unlink(missing_ok=True)
    memory_mb = memory_mb if memory_mb is not None else allowance_mb()
    ending = run_module(module, {**job, "memory_mb": memory_mb}, timeout_s=timeout_s)
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        if is_exhausted(ending.last_line):
            raise exhausted(f"{where}: the process that loads it", memory_mb) from None
        raise ArtifactError(f"{where}: the process that loads it {ending}.") from None
    finally:
        path.unlink(missing_ok=True)
    if "error" in result:
        if is_exhausted(result["error"]):
            raise exhausted(f"{where}: the process that loads it", memory_mb)
        raise ArtifactError(result["error"])
    return result


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write *tensors* to an ``.npz``, without pickles: text as unicode."""
    plain = {name: a.astype(str) if a.dtype == object else a for name, a in tensors.items()}
    # Numbered, because a name may hold a slash or be that of an argument of savez.
    numbered: dict[str, Any] = {f"a{i}": array for i, array in enumerate(plain.values())}
    np.savez(path, names=np.array(list(plain), dtype=str), **numbered)


def read_tensors(path: Path) -> Tensors:
    """Return the tensors that `write_tensors` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return {str(name): _text(archive[f"a{i}"]) for i, name in enumerate(archive["names"])}


def _text(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array
