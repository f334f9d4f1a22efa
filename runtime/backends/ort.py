"""ONNX Runtime, on the CPU or on the accelerators that its build drives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from scanflow_serve.policies.errors import ArtifactError, BackendError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends.inputs import InputCheck
from scanflow_serve.runtime.backends.reasons import onnxruntime_reason
from scanflow_serve.runtime.backends.registry import BACKENDS, CPU
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec

PROVIDERS = {entry.name: own for own, entry in BACKENDS["onnxruntime"].devices.items()}
# TF32, the default since Ampere, would keep 10 bits of an fp32 mantissa's 23.
OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "str",
    **{name: name for kind in ("int", "uint") for name in (f"{kind}{n}" for n in (8, 16, 32, 64))},
}
ZIPMAP = 'Convert the model again with options={"zipmap": False}.'  # skl2onnx's name for it
_MALFORMED = ("INVALID_PROTOBUF", "INVALID_GRAPH", "NO_SUCHFILE", "NO_MODEL", "INVALID_ARGUMENT")


class _Node(Protocol):
    """What onnxruntime's untyped NodeArg has."""

    name: str
    type: str
    shape: list[int | str | None]


class OnnxRuntimeSession:
    """One loaded ONNX model; onnxruntime lets several threads run it at once."""

    def __init__(self, artifact: Artifact, *, precision: str, device: str, threads: int) -> None:
        self.precision = precision
        self.device = device
        self.threads = threads
        self._path = str(artifact.path)
        session = _load(self._path, PROVIDERS[device], threads, widen=precision == "w8")
        if PROVIDERS[device] not in session.get_providers():  # else it would run on the CPU
            raise BackendError(
                f"{self._path}: onnxruntime must start {PROVIDERS[device]}, got "
                f"{session.get_providers()}. Install the driver and libraries of {device}."
            )
        self._session: Any = session
        self.signature = _signature(session, self._path)
        self._check = InputCheck(self.signature)
        self._outputs = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """Return all outputs by name."""
        session = self._session
        if session is None:
            raise BackendError(f"{self._path}: the session is closed.")
        self._check(inputs)
        try:
            values = session.run(self._outputs, inputs)
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise BackendError(
                f"{self._path}: onnxruntime failed: {onnxruntime_reason(error)}"
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Free the model's memory once the last running call has returned."""
        self._session = None


class OnnxRuntime:
    """Loads ONNX artifacts into onnxruntime."""

    name = "onnxruntime"

    def version(self) -> str:
        """Return onnxruntime's version."""
        return str(onnxruntime.__version__)

    def signature(self, artifact_path: str) -> Signature:
        """Return the names, dtypes and shapes that the file declares."""
        return _signature(_load(artifact_path, PROVIDERS[CPU], 1, to_run=False), artifact_path)

    def open(self, artifact: Artifact, *, precision: str, device: str, threads: int) -> Session:
        """Return a loaded session; onnxruntime executes the precision that the graph has."""
        where = f"Model {artifact.model!r} on onnxruntime"
        if artifact.format != "onnx":
            raise BackendError(f"{where}: the format must be onnx, got {artifact.format!r}.")
        if precision != artifact.precision:
            raise BackendError(
                f"{where}: the precision must be the artifact's, {artifact.precision!r}, "
                f"got {precision!r}. onnxruntime does not cast a model as it loads it."
            )
        available = onnxruntime.get_available_providers()
        if PROVIDERS.get(device) not in available:
            devices = ", ".join(name for name, own in PROVIDERS.items() if own in available)
            raise BackendError(
                f"{where}: the device must be one of {devices}, got {device!r}. "
                "Install the build of onnxruntime that drives it, or plan again."
            )
        return OnnxRuntimeSession(artifact, precision=precision, device=device, threads=threads)


def _load(
    path: str, provider: str, threads: int, *, to_run: bool = True, widen: bool = False
) -> Any:
    """Return the loaded model.

    Args:
        to_run: Else only to read its signature.
        widen: Compute in fp32, once at load, the weights that are stored in int8.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # several at once only help graphs with wide branches
    options.log_severity_level = 4  # fatal: what fails is raised, with the same text
    # Spinning threads burn a core between requests: digits-cnn-large, 2 threads, a request
    # every 2 ms took 2.6 ms of CPU each with it, 0.47 ms without (p50 0.30 and 0.41 ms), and
    # two busy processes on the same cores wait for one another (batch 32: 11.7 and 7.1 ms).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A memory pattern is kept for each batch size seen: digits-cnn-large after batches 1, 32
    # and 256 held 38.9 MB with patterns, 30.2 MB without, at the same latency. The arena
    # stays: without it and with patterns it was 55.3 MB, without both 28.2 MB.
    options.enable_mem_pattern = False
    if widen:  # by default each request would do it: CNN of 0.5 MB, 0.078 ms instead of 0.047
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not to_run:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(
            path, options, [(provider, OPTIONS.get(provider, {}))], enable_fallback=0
        )
    except Exception as error:  # see OnnxRuntimeSession.run
        malformed = any(code in str(error) for code in _MALFORMED)
        kind = ArtifactError if malformed or not to_run else BackendError
        raise kind(f"{path}: onnxruntime can't load it: {onnxruntime_reason(error)}") from error


def _signature(session: Any, path: str) -> Signature:
    return Signature(
        inputs=_specs(session.get_inputs(), "input", path),
        outputs=_specs(session.get_outputs(), "output", path),
    )


def _specs(nodes: Iterable[_Node], what: str, path: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=node.name,
            dtype=_dtype(node, what, path),
            shape=tuple(n if isinstance(n, int) else None for n in node.shape),
        )
        for node in nodes
    )


def _dtype(node: _Node, what: str, path: str) -> str:
    tensor = re.fullmatch(r"tensor\((\w+)\)", node.type)
    if tensor is None:
        cure = ZIPMAP if "map(" in node.type else "Export the model with tensors only."
        raise ArtifactError(
            f"{path}: {what} {node.name!r} must be a tensor, got {node.type}. {cure}"
        )
    if tensor[1] not in DTYPES:
        raise ArtifactError(
            f"{path}: {what} {node.name!r} must have a dtype that numpy has, got {tensor[1]}. "
            "Export the model with float32 inputs and outputs."
        )
    return str(np.dtype(DTYPES[tensor[1]]).name) if DTYPES[tensor[1]] != "str" else "str"


BACKEND = OnnxRuntime()
