"""Programs saved by torch.export (``.pt2``). Runs in a child process.

The archive is no pickle, but may hold some: torch.export.load unpickles constants and example
inputs without restraint, and loads compiled libraries. So it is looked through first, and torch
is held to unpickling tensors only.
Source: torch/export/pt2_archive/_package.py of torch 2.13.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scanflow_serve.converters.origins.archives import require_proportion
from scanflow_serve.converters.origins.consent import require_consent
from scanflow_serve.converters.origins.origin import Exported
from scanflow_serve.converters.origins.rows import in_portions
from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.converters.origins.torch_calls import Call, outputs_by_name
from scanflow_serve.converters.origins.torch_export import write_program
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Tensors, TensorSpec

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # read by torch.load at every call
OBJECTS = ("custom_obj_", "opaque_obj_")  # constants that are unpickled past torch.load
LIBRARIES = (".so", ".cubin", ".pyd", ".dll", ".dylib")
SAFE = "Export it again without custom objects: torch.export.save(torch.export.export(…), FILE)."


@dataclass(frozen=True, slots=True)
class TorchProgram:
    """A program, and how it is called."""

    where: str
    program: torch.export.ExportedProgram
    call: Call

    def export(self, folder: Path) -> Exported:
        """Return the program as ONNX; its batch is dynamic if the program's is."""
        path = folder / "model.onnx"
        names = [spec.name for spec in self.call.specs]
        args, kwargs = self._arguments(self.call.example())
        write_program(self.where, self.program, args, kwargs, names, path)
        return Exported(path)

    def run(self, inputs: Tensors) -> Tensors:
        """Return what the program answers in eager mode."""
        return in_portions(self._eager, inputs, self.call.fixed_batch)

    def _eager(self, inputs: Tensors) -> Tensors:
        tensors = [torch.from_numpy(inputs[spec.name].copy()) for spec in self.call.specs]
        args, kwargs = self._arguments(tensors)
        try:
            with torch.inference_mode():
                result = self.program.module()(*args, **kwargs)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ArtifactError(
                f"{self.where}: the program must take {self.call.shown()}, got {error}"
            ) from error
        return {k: v.numpy() for k, v in outputs_by_name(self.where, result).items()}

    def _arguments(self, tensors: list[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return *tensors* nested as the program was exported with."""
        args, kwargs = torch.utils._pytree.tree_unflatten(tensors, self.program.call_spec.in_spec)
        return args, kwargs


def load(saved: Saved) -> TorchProgram:
    """Return the program in a ``.pt2`` file."""
    path = saved.file
    require_proportion(saved.where, path)
    _look_through(saved, path)
    if not saved.trusted:
        os.environ[FORCE] = "1"
    try:
        program = torch.export.load(path)
    except Exception as error:  # zip, JSON, unpickling and torch's own schema errors
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            require_consent(saved.where, path, "a pickle", SAFE, trusted=saved.trusted)
        text = str(error).strip().split("\n")[0] or type(error).__name__
        raise ArtifactError(
            f"{saved.where}: {path.name} must be a program saved by this or an older torch "
            f"({torch.__version__}), got one that can't be loaded: {text}"
        ) from error
    return TorchProgram(saved.where, program, Call(_specs(saved, program), keywords=False))


def _look_through(saved: Saved, path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ArtifactError(
            f"{saved.where}: {path.name} must be a .pt2 archive, got {error}. Save it again."
        ) from error
    for name in names:
        last = name.rpartition("/")[2]
        if last.startswith(OBJECTS) or last.endswith(LIBRARIES) or "/aotinductor/" in name:
            require_consent(saved.where, path, f"{name!r} in it", SAFE, trusted=saved.trusted)


def _specs(saved: Saved, program: torch.export.ExportedProgram) -> tuple[TensorSpec, ...]:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    specs = []
    for name in program.graph_signature.user_inputs:
        value = values.get(str(name))
        if not isinstance(value, torch.Tensor) or not value.ndim:
            raise ArtifactError(
                f"{saved.where}: input {name!r} of the program must be a tensor with a batch, got "
                f"{'a scalar' if isinstance(value, torch.Tensor) else repr(name)}. Bind it in a "
                "module of your own before exporting."
            )
        shape = tuple(n if isinstance(n, int) else None for n in value.shape)
        specs.append(TensorSpec(str(name), str(value.dtype).removeprefix("torch."), shape))
    if saved.named and len(saved.inputs) == len(specs):  # a registry knows better names
        specs = [replace(s, name=own.name) for s, own in zip(specs, saved.inputs, strict=True)]
    return tuple(specs)
