"""torch modules: made by a person's factory, with weights from a file, or unpickled whole.

Runs in a child process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scanflow_serve.converters.origins.archives import require_proportion
from scanflow_serve.converters.origins.code import load_function
from scanflow_serve.converters.origins.consent import require_consent
from scanflow_serve.converters.origins.origin import Exported
from scanflow_serve.converters.origins.rows import in_portions
from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.converters.origins.torch_calls import Call, bind, outputs_by_name
from scanflow_serve.converters.origins.torch_export import write_onnx
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Tensors

SAFE_WEIGHTS = "Save its weights with safetensors.torch.save_file(model.state_dict(), FILE)."
SAFE_MODULE = (
    "Save it with torch.export.save (.pt2), or name its factory: source: torch:module:factory."
)


@dataclass(frozen=True, slots=True)
class TorchModule:
    """A module in evaluation mode, and how it is called."""

    where: str
    module: torch.nn.Module
    call: Call

    def export(self, folder: Path) -> Exported:
        """Return the module as ONNX."""
        path = folder / "model.onnx"
        write_onnx(self.where, self.module, self.call, path)
        return Exported(path)

    def run(self, inputs: Tensors) -> Tensors:
        """Return what the module answers in eager mode."""
        return in_portions(self._eager, inputs, self.call.fixed_batch)

    def _eager(self, inputs: Tensors) -> Tensors:
        tensors = [torch.from_numpy(inputs[spec.name].copy()) for spec in self.call.specs]
        args, kwargs = self.call.arguments(tensors)
        try:
            with torch.inference_mode():
                result = self.module(*args, **kwargs)
        except Exception as error:  # whatever a person's module raises
            raise ArtifactError(
                f"{self.where}: the module must take {self.call.shown()}, got "
                f"{type(error).__name__}: {error}"
            ) from error
        return {k: v.numpy() for k, v in outputs_by_name(self.where, result).items()}


def load_factory(saved: Saved) -> TorchModule:
    """Return what the factory makes, with the weights of the file."""
    factory = str(saved.factory)
    function = load_function(saved.where, factory, saved.folder or Path())
    try:
        module = function()
    except Exception as error:  # whatever a person's factory raises
        raise ArtifactError(
            f"{saved.where}: {factory}() must return a torch.nn.Module, got "
            f"{type(error).__name__}: {error}. It is called without arguments."
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ArtifactError(
            f"{saved.where}: {factory}() must return a torch.nn.Module, got "
            f"{type(module).__name__}."
        )
    if saved.path is not None:
        _load_weights(saved, module, saved.path)
    return _ready(saved, module)


def load_pickled(saved: Saved) -> TorchModule:
    """Return the module that a trusted pickle holds."""
    path = saved.file
    require_consent(saved.where, path, "a pickle", SAFE_MODULE, trusted=saved.trusted)
    module = _torch_load(saved, path, weights_only=False)
    if not isinstance(module, torch.nn.Module):
        raise ArtifactError(
            f"{saved.where}: {path.name} must hold a torch.nn.Module, got {type(module).__name__}. "
            "Weights alone need their code: source: torch:module:factory and weights: FILE."
        )
    return _ready(saved, module)


def _ready(saved: Saved, module: torch.nn.Module) -> TorchModule:
    torch.set_num_threads(os.cpu_count() or 1)
    module = module.float() if _is_half(module) else module
    return TorchModule(saved.where, module.eval(), bind(saved, module))


def _is_half(module: torch.nn.Module) -> bool:
    """Return whether weights are stored in a half precision: the reference is run in fp32."""
    return any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters())


def _load_weights(saved: Saved, module: torch.nn.Module, path: Path) -> None:
    weights = _read_weights(saved, path)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:  # names every key and shape that does not fit
        raise ArtifactError(
            f"{saved.where}: {path.name} must hold the weights of {saved.factory}, got "
            f"{' '.join(str(error).split())}"
        ) from error


def _read_weights(saved: Saved, path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _malformed(saved, path, error) from error
    found = _torch_load(saved, path, weights_only=not saved.trusted)
    if isinstance(found, torch.nn.Module):
        return found.state_dict()
    inner = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(inner, Mapping):
        raise ArtifactError(
            f"{saved.where}: {path.name} must hold a state dict, got {type(found).__name__}. "
            f"{SAFE_WEIGHTS}"
        )
    return inner


def _torch_load(saved: Saved, path: Path, *, weights_only: bool) -> Any:
    import pickle

    require_proportion(saved.where, path)
    try:
        return torch.load(path, map_location="cpu", weights_only=weights_only)
    except pickle.UnpicklingError as error:
        if weights_only:
            require_consent(saved.where, path, "a pickle", SAFE_WEIGHTS, trusted=False)
        raise _malformed(saved, path, error) from error
    except Exception as error:  # a trusted pickle raises what it likes
        raise _malformed(saved, path, error) from error


def _malformed(saved: Saved, path: Path, error: Exception) -> ArtifactError:
    text = " ".join(str(error).split()) or type(error).__name__
    return ArtifactError(f"{saved.where}: {path.name} can't be loaded: {text}. Save it again.")
