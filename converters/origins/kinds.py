"""From a policy's ``source:`` to the origin that it means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from scanflow_serve.converters.memory import allowance_mb
from scanflow_serve.converters.origins.bento_models import bento_file
from scanflow_serve.converters.origins.code import module_files
from scanflow_serve.converters.origins.in_child import ChildOrigin
from scanflow_serve.converters.origins.mlflow_folders import LoggedModel, read_model_folder
from scanflow_serve.converters.origins.mlflow_models import fetch
from scanflow_serve.converters.origins.origin import Lineage, Origin
from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.converters.sources import model_files
from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.tensors import Array, Tensors, TensorSpec

# How a file's suffix says what is in it -> a key of `LOADERS`.
SUFFIXES = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".pt2": "program",
    ".skops": "skops",
    ".joblib": "joblib",
    ".pkl": "joblib",
    ".pickle": "joblib",
    ".pt": "module",
    ".pth": "module",
}
_SCHEME = re.compile(r"(torch|models|runs|bento):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Request:
    """A model of a policy, and what is known of its inputs."""

    where: str
    model: schema.Model
    policy_file: PolicyFile
    inputs: tuple[TensorSpec, ...]
    named: bool
    memory_mb: float


_Kind: TypeAlias = Callable[[_Request, str], Origin]


def find_origin(
    name: str,
    model: schema.Model,
    policy_file: PolicyFile,
    *,
    sample: Tensors | None = None,
    memory_mb: float | None = None,
) -> Origin:
    """Return the origin of model *name*; a registry's model is fetched, nothing is loaded.

    Args:
        sample: Rows of calibration or validation data: what says the shapes of an input where
            neither the source nor the policy does.
        memory_mb: What the process that loads it may take; default: what this host grants.

    Raises:
        ArtifactError: There is no such file or model, or it is of no known kind.
        PolicyError: A path leaves the policy's folder.
        MissingExtraError: What fetches it is not installed.
    """
    named = model.inputs is not None
    inputs = _declared(model.inputs) if model.inputs is not None else _seen(sample or {})
    bound = allowance_mb() if memory_mb is None else memory_mb
    request = _Request(f"Model {name!r}", model, policy_file, inputs, named, bound)
    scheme = _SCHEME.fullmatch(model.source)
    if scheme is not None and not (policy_file.folder / model.source).exists():
        return _KINDS[scheme[1]](request, scheme[2])
    path = policy_file.resolve(model.source)
    if path.is_dir():
        return _of_logged(request, read_model_folder(request.where, path), None)
    return _of_file(request, path, policy_file.folder)


def _declared(inputs: dict[str, schema.ModelInput]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, given.dtype, tuple(None if n < 0 else n for n in given.shape))
        for name, given in inputs.items()
    )


def _seen(sample: Tensors) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(n, _dtype(a), (None, *a.shape[1:])) for n, a in sample.items())


def _dtype(array: Array) -> str:
    if array.dtype.kind in "OU":
        return "str"
    return "float32" if array.dtype.kind == "f" else str(array.dtype)  # what models are trained in


def _of_torch(request: _Request, spec: str) -> Origin:
    folder, weights = request.policy_file.folder, request.model.weights
    path = request.policy_file.resolve(weights) if weights is not None else None
    if path is not None and not path.is_file():
        raise ArtifactError(f"{request.where}: weights must be a file, got none at {path}.")
    saved = replace(_saved(request, "factory", path), factory=spec, folder=folder)
    files = module_files(folder, spec.partition(":")[0])
    files += (path,) if path is not None else ()
    return ChildOrigin(saved, files, memory_mb=request.memory_mb)


def _of_mlflow(scheme: str) -> _Kind:
    def found(request: _Request, rest: str) -> Origin:
        fetched = fetch(request.where, f"{scheme}:{rest}", request.policy_file)
        logged = read_model_folder(request.where, fetched.folder)
        return _of_logged(request, logged, fetched.lineage)

    return found


def _of_logged(request: _Request, logged: LoggedModel, lineage: Lineage | None) -> Origin:
    if logged.inputs and not request.named:
        request = replace(request, inputs=logged.inputs, named=True)
    return _of_file(request, logged.path, logged.folder, lineage=lineage, code=logged.code)


def _of_bento(request: _Request, tag: str) -> Origin:
    path, lineage = bento_file(request.where, tag, frozenset(SUFFIXES))
    return _of_file(request, path, path.parent, lineage=lineage)


_KINDS: dict[str, _Kind] = {
    "torch": _of_torch,
    "models": _of_mlflow("models"),
    "runs": _of_mlflow("runs"),
    "bento": _of_bento,
}


def _of_file(
    request: _Request,
    path: Path,
    folder: Path,
    *,
    lineage: Lineage | None = None,
    code: tuple[Path, ...] = (),
) -> Origin:
    loader = SUFFIXES.get(path.suffix.lower())
    if loader is None:
        raise ArtifactError(
            f"{request.where}: a source must end in one of {', '.join(SUFFIXES)}, or start with "
            f"torch:, models:/, runs:/ or bento:, got {path.name!r}. Save the model as one of them."
        )
    if not path.is_file():
        raise ArtifactError(f"{request.where}: source must be a file, got none at {path}.")
    saved = replace(_saved(request, loader, path), folder=folder, code=code)
    if loader in ("onnx", "openvino"):  # they know their inputs, and external files are theirs
        files = model_files(request.where, path, folder)
        saved = replace(saved, inputs=())
        return ChildOrigin(saved, files, lineage, memory_mb=request.memory_mb)
    modules = (file for place in code for file in sorted(place.rglob("*.py")))
    return ChildOrigin(saved, (path, *modules), lineage, memory_mb=request.memory_mb)


def _saved(request: _Request, loader: str, path: Path | None) -> Saved:
    return Saved(
        loader=loader,
        where=request.where,
        path=path,
        trusted=request.model.trust_pickle is not None,
        inputs=request.inputs,
        named=request.named,
    )
