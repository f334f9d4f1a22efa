"""The table of backends, readable without importing anything heavy."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import cast

from scanflow_serve.policies.errors import MissingExtraError
from scanflow_serve.runtime.backends.session import Backend


@dataclass(frozen=True, slots=True)
class Entry:
    """One backend: where it lives, what it can load, what must be installed.

    Attributes:
        module: Its module has a `BACKEND` that satisfies `session.Backend`.
        requires: Import name of the library.
        extra: The extra of scanflow-serve that installs it.
        formats: Artifact formats that it loads.
        casts: Precisions that it can execute an fp32 artifact in.
    """

    module: str
    requires: str
    extra: str
    formats: frozenset[str]
    casts: frozenset[str]


BACKENDS: dict[str, Entry] = {
    "onnxruntime": Entry(
        module="scanflow_serve.runtime.backends.ort",
        requires="onnxruntime",
        extra="onnxruntime",
        formats=frozenset({"onnx"}),
        casts=frozenset({"fp32"}),
    ),
    "openvino": Entry(
        module="scanflow_serve.runtime.backends.ov",
        requires="openvino",
        extra="openvino",
        formats=frozenset({"onnx", "openvino"}),
        casts=frozenset({"fp32", "fp16", "bf16"}),
    ),
}


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
