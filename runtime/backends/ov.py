"""OpenVINO, on any device that its plugins drive.

Importing openvino sends a usage event to Google Analytics when openvino_telemetry is importable
(``openvino/tools/ovc/__init__.py``); a device must not phone home, so it is hidden first, and
openvino falls back to the silent stub it brings.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # import then fails

import openvino  # type: ignore[import-untyped]
from openvino.frontend import FrontEndManager  # type: ignore[import-untyped]

from scanflow_serve.policies.errors import ArtifactError, BackendError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends.inputs import InputCheck
from scanflow_serve.runtime.backends.reasons import openvino_reason
from scanflow_serve.runtime.backends.registry import AS_STORED
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec

HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
NUMPY_DTYPES = {
    "boolean": "bool",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    **{f"{kind[0]}{n}": f"{kind}{n}" for kind in ("int", "uint") for n in (8, 16, 32, 64)},
}
IDLE_REQUESTS = 8  # kept for reuse; each holds its own activations


class OpenVinoSession:
    """One compiled model; every call has an infer request of its own, from a small pool."""

    def __init__(self, artifact: Artifact, *, precision: str, device: str, threads: int) -> None:
        self._path = str(artifact.path)
        model = _read(self._path, artifact.format)
        self.signature = _signature(model, self._path)
        _require_open_batch(self.signature, self._path)
        settings: dict[str, Any] = {
            # Without it the CPU plugin runs an fp32 model in bf16 (AMX) or fp16 (ARM).
            "INFERENCE_PRECISION_HINT": HINTS.get(precision, "f32"),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if device == "CPU":  # other plugins choose streams themselves, or lack the properties
            settings |= {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        self._compiled: Any = _compile(self._path, model, device, settings)
        self.device = device
        self.precision = _effective(self._compiled, artifact)
        self.threads = (
            int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
            if device == "CPU"
            else threads
        )
        self._check = InputCheck(self.signature)
        self._inputs = tuple((i, spec.name) for i, spec in enumerate(self.signature.inputs))
        self._outputs = tuple(spec.name for spec in self.signature.outputs)
        self._idle: deque[Any] = deque(maxlen=IDLE_REQUESTS)

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """Return all outputs by name."""
        compiled = self._compiled
        if compiled is None:
            raise BackendError(f"{self._path}: the session is closed.")
        self._check(inputs)
        values: dict[int, Array] = {i: inputs[name] for i, name in self._inputs}
        try:
            request = self._idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        try:
            # Shared inputs save a copy; outputs are copied, the request's own are reused.
            results = request.infer(values, share_inputs=True).to_tuple()
        except RuntimeError as error:
            raise BackendError(
                f"{self._path}: openvino failed: {openvino_reason(error)}"
            ) from error
        if self._compiled is not None:
            self._idle.append(request)
        return dict(zip(self._outputs, results, strict=True))

    def close(self) -> None:
        """Free the model's memory once the last running call has returned."""
        self._compiled = None
        self._idle.clear()


class OpenVino:
    """Loads ONNX and OpenVINO IR artifacts into OpenVINO."""

    name = "openvino"

    def version(self) -> str:
        """Return OpenVINO's version, without its build."""
        return str(openvino.get_version()).split("-")[0]

    def signature(self, artifact_path: str) -> Signature:
        """Return the names, dtypes and shapes that the file declares."""
        kind = "openvino" if artifact_path.endswith(".xml") else "onnx"
        return _signature(_read(artifact_path, kind), artifact_path)

    def open(self, artifact: Artifact, *, precision: str, device: str, threads: int) -> Session:
        """Return a loaded session, if the device can execute the precision."""
        where = f"Model {artifact.model!r} on openvino"
        if precision not in HINTS and precision != artifact.precision:
            raise BackendError(
                f"{where}: the precision must be one of {', '.join(HINTS)} or the artifact's, "
                f"{artifact.precision!r}, got {precision!r}."
            )
        if device not in (devices := _core().available_devices):
            raise BackendError(
                f"{where}: the device must be one of {', '.join(devices)}, got {device!r}. "
                "Install the device's driver and OpenVINO plugin, or plan again."
            )
        session = OpenVinoSession(artifact, precision=precision, device=device, threads=threads)
        if session.precision != precision:
            effective = session.precision
            session.close()
            raise BackendError(
                f"{where}: device {device} must execute {precision}, but it executes {effective}. "
                f"Measure {effective} instead."
            )
        return session


_cores: list[Any] = []


def _core() -> Any:
    """Return the process's Core: a second one loads the plugins again."""
    if not _cores:
        _cores.append(openvino.Core())
    return _cores[0]


def _read(path: str, kind: str) -> Any:
    if not os.path.isfile(path):
        raise ArtifactError(f"{path}: openvino can't load it: no such file.")
    try:
        if kind == "openvino":
            return _core().read_model(path)
        # Named, because a Core would try the frontends one by one on a malformed file.
        frontend = FrontEndManager().load_by_framework("onnx")
        return frontend.convert(frontend.load(path))
    except Exception as error:  # the frontends' exceptions share no other base
        raise ArtifactError(f"{path}: openvino can't load it: {openvino_reason(error)}") from error


def _compile(path: str, model: Any, device: str, settings: Mapping[str, Any]) -> Any:
    try:
        return _core().compile_model(model, device, dict(settings))
    except RuntimeError as error:
        raise BackendError(
            f"{path}: openvino can't compile it: {openvino_reason(error)}"
        ) from error


def _effective(compiled: Any, artifact: Artifact) -> str:
    """Return the precision that the plugin says it executes; what is stored in fewer bits stays."""
    if artifact.precision in AS_STORED:
        return artifact.precision
    hint = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return next((name for name, short in HINTS.items() if short == hint), hint)


def _signature(model: Any, path: str) -> Signature:
    return Signature(
        inputs=_specs(model.inputs, "input", path), outputs=_specs(model.outputs, "output", path)
    )


def _require_open_batch(signature: Signature, path: str) -> None:
    """Refuse a model that takes any number of rows, and makes a fixed one of them.

    A Reshape to constants does: with one thread the CPU plugin of 2026.4 does not hold it to what
    comes in. One row was answered with stale memory, and a process that opened further sessions
    of that model ended by SIGSEGV, 5 times of 5.
    """
    if any(not spec.shape or spec.shape[0] is not None for spec in signature.inputs):
        return
    for spec in signature.outputs:
        if len(spec.shape) > 1 and spec.shape[0] is not None:
            raise BackendError(
                f"{path}: openvino can't run it: output {spec.name!r} must have as many rows as "
                f"the inputs, got {list(spec.shape)}. Export the model with a dynamic batch."
            )


def _specs(ports: Iterable[Any], what: str, path: str) -> tuple[TensorSpec, ...]:
    return tuple(_spec(port, what, path) for port in ports)


def _spec(port: Any, what: str, path: str) -> TensorSpec:
    name = _name(port)
    dtype = port.element_type.get_type_name()
    if dtype == "string":  # freeing a model with one aborts the process: 2026.4, CPU plugin
        raise ArtifactError(
            f"{path}: {what} {name!r} must not be text on openvino, got string. "
            "Allow 'onnxruntime' in the policy's variants.backends."
        )
    if dtype not in NUMPY_DTYPES:
        raise ArtifactError(
            f"{path}: {what} {name!r} must have a dtype that numpy has, got {dtype}. "
            "Export the model with float32 inputs and outputs."
        )
    if port.partial_shape.rank.is_dynamic:
        raise ArtifactError(
            f"{path}: {what} {name!r} must have a known number of dimensions. "
            "Export the model with its shapes."
        )
    shape = tuple(None if n.is_dynamic else n.get_length() for n in port.partial_shape)
    return TensorSpec(name=name, dtype=NUMPY_DTYPES[dtype], shape=shape)


def _name(port: Any) -> str:
    """Return the port's name as the model's file has it; a tensor may have several names."""
    node = port.get_node()
    own = str(node.get_friendly_name()).split("/sink_port_")[0]
    names = port.get_names()
    return own if own in names or not names else str(min(names))


BACKEND = OpenVino()
