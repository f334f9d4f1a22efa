"""The interface that every backend implements, and what the rest of the runtime relies on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.tensors import Array, Signature, Tensors


class Session(Protocol):
    """One loaded artifact, ready to run; safe to call from several threads.

    Attributes:
        signature: Of the model as loaded.
        precision: The precision that inference *effectively* uses, such as ``bf16``.
        device: Where it runs, such as ``CPU``.
        threads: Intra-op threads.
    """

    signature: Signature
    precision: str
    device: str
    threads: int

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """Return all outputs by name, for inputs of shape (batch, …) by name.

        Raises:
            InputError: A name, dtype or shape does not fit `signature`; says which and what does.
            BackendError: The backend failed.
        """
        ...

    def close(self) -> None:
        """Free the model's memory; the session can't be used afterwards."""
        ...


class Backend(Protocol):
    """What runs artifacts: one module of this package each, found by `registry`."""

    name: str

    def version(self) -> str:
        """Return the version of the library underneath."""
        ...

    def signature(self, artifact_path: str) -> Signature:
        """Return the names, dtypes and shapes that the file declares.

        Raises:
            ArtifactError: The file is malformed or has an op that the backend lacks.
        """
        ...

    def open(self, artifact: Artifact, *, precision: str, device: str, threads: int) -> Session:
        """Return a loaded session.

        Raises:
            BackendError: The artifact can't be loaded, or not with this precision or device.
        """
        ...
