"""ONNX files and OpenVINO IR: nothing to export; their own runtime is the reference."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scanflow_serve.converters.origins.origin import Exported
from scanflow_serve.converters.origins.rows import in_portions
from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.converters.sources import file_artifact
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.backends.registry import AS_STORED
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.tensors import Tensors


@dataclass(frozen=True, slots=True)
class ReadyFile:
    """A model file that a backend loads."""

    artifact: Artifact

    def export(self, folder: Path) -> Exported:
        """Return the file, where it lies."""
        return Exported(self.artifact.path)

    def run(self, inputs: Tensors) -> Tensors:
        """Return what the file's own runtime answers: ONNX Runtime for ONNX."""
        session = _open(self.artifact)
        return in_portions(session.run, inputs, self.artifact.signature.fixed_batch)


def load(saved: Saved) -> ReadyFile:
    """Return the model file."""
    folder = saved.folder or saved.file.parent
    return ReadyFile(file_artifact(saved.where, saved.file, folder))


def _open(artifact: Artifact) -> Session:
    onnx = artifact.format == "onnx" and "onnxruntime" in artifact.manifest.tools
    backend = registry.backend("onnxruntime" if onnx else "openvino")
    # What is stored in fp16 is run in fp32 by OpenVINO: exactly, and on every CPU.
    precision = artifact.precision if onnx or artifact.precision in AS_STORED else "fp32"
    return backend.open(artifact, precision=precision, device="CPU", threads=os.cpu_count() or 1)
