"""The table of backends, readable without importing anything heavy."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from scanflow_serve.policies.errors import MissingExtraError
from scanflow_serve.runtime.backends.session import Backend


@dataclass(frozen=True, slots=True)
class Device:
    """What a backend can run on.

    Attributes:
        name: As variants and policies have it.
        precisions: What it computes in; on a CPU some only where the processor has them.
    """

    name: str
    precisions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One backend: where it lives, what it can load, what must be installed.

    Attributes:
        module: Its module has a `BACKEND` that satisfies `session.Backend`.
        requires: Import name of the library.
        extra: The extra of scanflow-serve that installs it.
        distributions: Packages that bring the library, of which one is installed.
        formats: Artifact formats that it loads.
        casts: Whether it can execute a file in another precision than it is stored in.
        devices: By the library's own name, as `HostProfile.accelerators` lists them.
    """

    module: str
    requires: str
    extra: str
    distributions: tuple[str, ...]
    formats: frozenset[str]
    casts: bool
    devices: Mapping[str, Device]


CPU = "CPU"
# What a file is made in: weights and activations in int8, or weights alone in int8 or fp16. No
# backend makes it of another file as it loads that, or casts such a file to something else.
AS_STORED = frozenset({"int8", "w8", "w16"})
_ALL = frozenset({"fp32", "fp16", "bf16"}) | AS_STORED
_FLOATS = frozenset({"fp32", "fp16", "w8", "w16"})

BACKENDS: dict[str, Entry] = {
    "onnxruntime": Entry(
        module="scanflow_serve.runtime.backends.ort",
        requires="onnxruntime",
        extra="onnxruntime",
        distributions=("onnxruntime", "onnxruntime-gpu", "onnxruntime-rocm"),
        formats=frozenset({"onnx"}),
        casts=False,
        # Not TensorRT and MIGraphX: they compile for minutes, for every new shape and at every
        # start. Not CoreML, which computes in fp16, nor DirectML, which forbids concurrent runs.
        devices={
            "CPUExecutionProvider": Device(CPU, _ALL),
            "CUDAExecutionProvider": Device("CUDA", _FLOATS),
            "ROCMExecutionProvider": Device("ROCM", _FLOATS),
        },
    ),
    "openvino": Entry(
        module="scanflow_serve.runtime.backends.ov",
        requires="openvino",
        extra="openvino",
        distributions=("openvino",),
        formats=frozenset({"onnx", "openvino"}),
        casts=True,
        devices={
            "CPU": Device(CPU, _ALL),
            "GPU": Device("GPU", _FLOATS | {"int8"}),
            "NPU": Device("NPU", frozenset({"fp16", "int8"})),
        },
    ),
}


def devices(name: str, accelerators: Iterable[str]) -> dict[str, Device]:
    """Return what the backend can run on where a host has *accelerators*, by its name there.

    OpenVINO counts devices of a kind where there are several.

    >>> list(devices("openvino", ["nvidia", "openvino:GPU.1", "openvino:TOASTER"]))
    ['CPU', 'GPU.1']
    """
    known = BACKENDS[name].devices
    found = {CPU: next(device for device in known.values() if device.name == CPU)}
    for accelerator in accelerators:
        library, _, own = accelerator.partition(":")
        kind, dot, number = own.partition(".")
        if library == name and kind in known:
            found[f"{known[kind].name}{dot}{number}"] = known[kind]
    return found


def version(*distributions: str) -> str:
    """Return the version of the first of *distributions* that is installed; imports nothing.

    >>> version("no-such-package", "still-none")
    ''
    """
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def installed(name: str) -> bool:
    """Return whether the backend's library can be imported."""
    return importlib.util.find_spec(BACKENDS[name].requires) is not None


def backend(name: str) -> Backend:
    """Return the backend, importing its library.

    Raises:
        MissingExtraError: Its library is not installed.
    """
    entry = BACKENDS[name]
    if not installed(name):
        raise MissingExtraError(f"Backend {name!r}", entry.extra)
    return cast(Backend, importlib.import_module(entry.module).BACKEND)
