"""torch to ONNX, by torch's exporter over torch.export graphs. Runs in a child process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scanflow_serve.converters.origins.torch_calls import Call, outputs_by_name
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

MAX_INSIDE = 1_500_000_000  # bytes of weights in the file itself; protobuf ends at 2 GiB


def write_onnx(where: str, module: torch.nn.Module, call: Call, path: Path) -> None:
    """Write *module* as ONNX to *path*, with a dynamic batch and stable output names.

    Raises:
        ArtifactError: torch can't trace it, or ONNX lacks an operator that it uses.
    """
    example = call.example()
    args, kwargs = call.arguments(example)
    batch = torch.export.Dim("batch")
    shapes_args, shapes_kwargs = call.arguments([_dynamic(spec, batch) for spec in call.specs])
    with _quiet():
        try:
            program = torch.export.export(
                module, args, kwargs, dynamic_shapes=shapes_kwargs or shapes_args, strict=False
            )
        except Exception as error:  # torch.export's own, or what the module raises
            raise ArtifactError(
                f"{where}: torch.export must trace the module for any batch size, with "
                f"{call.shown()}, got {type(error).__name__}: {_first_line(error)} "
                "Correct the inputs, or write it without branches on values and fixed sizes."
            ) from error
    write_program(where, program, args, kwargs, [spec.name for spec in call.specs], path)


def write_program(
    where: str,
    program: torch.export.ExportedProgram,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    input_names: list[str],
    path: Path,
) -> None:
    """Write an exported *program* as ONNX to *path*.

    Args:
        args: An example, with *kwargs*; run to learn the outputs' names.

    Raises:
        ArtifactError: ONNX lacks an operator that it uses, or the program can't be run.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with _quiet():
        try:
            with torch.inference_mode():
                names = list(outputs_by_name(where, program.module()(*args, **kwargs)))
            made = torch.onnx.export(
                program,
                args=(),
                dynamo=True,
                input_names=input_names,
                output_names=names,
                verbose=False,
            )
        except ArtifactError:
            raise
        except Exception as error:  # torch.onnx.errors share no base with what torch raises
            raise ArtifactError(
                f"{where}: torch's ONNX exporter must know every operator, got "
                f"{type(error).__name__}: {_first_line(error)} Replace that operator."
            ) from error
        if made is None:  # only without dynamo=True
            raise ArtifactError(f"{where}: torch's ONNX exporter returned no program.")
        # The exporter writes stack traces with absolute paths of this machine into nodes.
        ClearMetadataAndDocStringPass()(made.model)
        _name_batch(made.model)
        made.save(str(path), external_data=_weight_bytes(program) > MAX_INSIDE)


def _dynamic(spec: TensorSpec, batch: Any) -> dict[int, Any]:
    other = torch.export.Dim.DYNAMIC
    axes = {axis: other for axis, n in enumerate(spec.shape) if n is None}
    return {**axes, **({0: batch} if spec.shape[0] is None else {})}


def _name_batch(model: Any) -> None:
    """Call the first dimension ``batch`` where the exporter called it ``s77``."""
    import onnx_ir

    symbols = {
        value.shape[0].value
        for value in model.graph.inputs
        if value.shape and isinstance(value.shape[0], onnx_ir.SymbolicDim)
    }
    for value in _values(model):
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, onnx_ir.SymbolicDim) and size.value in symbols:
                value.shape[axis] = onnx_ir.SymbolicDim("batch")


def _values(model: Any) -> Iterable[Any]:
    yield from model.graph.inputs
    yield from model.graph.outputs
    for node in model.graph:
        yield from node.outputs


def _weight_bytes(program: torch.export.ExportedProgram) -> int:
    return sum(t.numel() * t.element_size() for t in program.state_dict.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of torch's own insides."""
    for name in ("torch.onnx", "torch.export", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        yield


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    kept = [line for line in lines if line and not line.startswith(("#", "Traceback", "==="))]
    text = kept[0] if kept else type(error).__name__
    return text if text.endswith(".") else f"{text}."
