"""How a torch module is called: which tensors, in which order, under which names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

OTHER = 32  # size of the example along a dynamic dimension other than the batch
BATCH = 2  # rows of the example: torch.export takes a size of 1 for a constant


@dataclass(frozen=True, slots=True)
class Call:
    """A module's inputs.

    Attributes:
        keywords: The specs' names are parameters of ``forward``; else they go by position.
    """

    specs: tuple[TensorSpec, ...]
    keywords: bool

    @property
    def fixed_batch(self) -> int | None:
        """Return the batch size that the model insists on, or None."""
        return self.specs[0].shape[0]

    def arguments(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return *tensors*, or what stands for them, as positional and keyword arguments."""
        if not self.keywords:
            return tuple(tensors), {}
        return (), {spec.name: t for spec, t in zip(self.specs, tensors, strict=True)}

    def example(self) -> list[torch.Tensor]:
        """Return tensors that fit."""
        return [torch.zeros(_sizes(spec), dtype=getattr(torch, spec.dtype)) for spec in self.specs]

    def shown(self) -> str:
        """Return the inputs for people."""
        return ", ".join(
            f"{spec.name} {spec.dtype} {[-1 if n is None else n for n in spec.shape]}"
            for spec in self.specs
        )


def bind(saved: Saved, module: torch.nn.Module) -> Call:
    """Return how *module* is called with the inputs that *saved* declares.

    Raises:
        ArtifactError: None are declared, or they can't be tensors of torch.
    """
    parameters = _parameters(module)
    if not saved.inputs:
        name = parameters[0] if parameters else "x"
        raise ArtifactError(
            f"{saved.where}: a torch module does not say which shapes it takes, got no data to "
            "read them from. Add to the model in the policy: "
            f"inputs: {{{name}: {{shape: [-1, …]}}}}"
        )
    specs = saved.inputs
    for spec in specs:
        if spec.dtype == "str" or not spec.shape:
            raise ArtifactError(f"{saved.where}: input {spec.name!r} must be a tensor of numbers.")
    names = [spec.name for spec in specs]
    if set(names) <= set(parameters):
        order = sorted(specs, key=lambda spec: parameters.index(spec.name))
        return Call(tuple(order), keywords=True)
    if not saved.named and len(specs) <= len(parameters):
        renamed = (replace(s, name=p) for s, p in zip(specs, parameters, strict=False))
        return Call(tuple(renamed), keywords=True)
    return Call(specs, keywords=False)


def outputs_by_name(where: str, result: Any) -> dict[str, torch.Tensor]:
    """Return a module's result by name: ``output``, ``output_0`` …, or a mapping's own keys.

    Raises:
        ArtifactError: It holds something that is no tensor.
    """
    if isinstance(result, torch.Tensor):
        named = {"output": result}
    elif isinstance(result, Mapping):
        named = {str(name): value for name, value in result.items() if value is not None}
    elif isinstance(result, (tuple, list)):
        named = {f"output_{i}": value for i, value in enumerate(result)}
    else:
        named = {"output": result}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise ArtifactError(
                f"{where}: the module must return tensors (one, a tuple or a dict), got "
                f"{type(value).__name__} as {name!r}. Wrap it in a module that does."
            )
    return named


def _parameters(module: torch.nn.Module) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds
    ]


def _sizes(spec: TensorSpec) -> list[int]:
    batch, *others = spec.shape
    return [BATCH if batch is None else batch, *(OTHER if n is None else n for n in others)]
