"""What the rest of the conversion knows of a model's source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from scanflow_serve.runtime.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Exported:
    """A source as a file that conversions start from.

    Attributes:
        path: An ``.onnx`` file, or the ``.xml`` of OpenVINO IR.
        labels: Class names in output order, where the source knows them.
    """

    path: Path
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a source was fetched from.

    Attributes:
        address: Fully resolved, such as ``models:/digits/3``.
        details: What the registry says of it, such as its run.
    """

    address: str
    details: Mapping[str, str] = field(default_factory=dict)


class Origin(Protocol):
    """One model's source.

    Attributes:
        kind: Such as ``torch factory``, for people and the manifest.
        lineage: None for a file beside the policy.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def lineage(self) -> Lineage | None: ...  # noqa: D102

    def digest(self) -> str:
        """Return the SHA-256, hex, of all bytes that decide what the model answers."""
        ...

    def tools(self) -> dict[str, str]:
        """Return the versions of what exports and runs it, by package."""
        ...

    def export(self, folder: Path) -> Exported:
        """Return the model as ONNX with a dynamic batch, in *folder*; ONNX and IR as they lie.

        Raises:
            ArtifactError: It can't be loaded or exported, or is a pickle without consent.
            MissingExtraError: What exports it is not installed.
        """
        ...

    def reference(self, inputs: Tensors) -> Tensors:
        """Return what the *original* answers, under the names that the export's outputs have.

        Args:
            inputs: By the export's input names, shape (rows, …).

        Raises:
            ArtifactError: It can't be loaded or run.
        """
        ...
