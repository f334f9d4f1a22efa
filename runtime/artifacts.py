"""What a backend loads: one model file of one format and precision, and where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Signature

Format: TypeAlias = Literal["onnx", "openvino", "torch"]
MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """Provenance of an artifact: what it was made from, with what, and whether it was verified.

    Attributes:
        source: The policy's ``source`` text.
        source_digest: SHA-256 of the source's bytes, hex.
        route: Conversion steps taken, empty for a source that is served as it stands.
        tools: Tool name -> version.
        verification: Figures of the verification against the source, empty if it *is* the source.
        options: What the steps were told, such as the digest of the calibration data.
        effective: Backend -> the precision that it executed in when it was verified: that of
            most of its weights.
        weights: What weights are stored in -> their share, 0 to 1; empty if not known.
        labels: Class names in output order, where the source knows them.
        durations_s: Step -> seconds that it took.
        lineage: The registry's address of the source, such as ``models:/digits/3`` where `source`
            names an alias; empty for a file.
        version: Of this schema.
    """

    source: str
    source_digest: str
    route: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    verification: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    effective: Mapping[str, str] = field(default_factory=dict)
    durations_s: Mapping[str, float] = field(default_factory=dict)
    lineage: str = ""
    version: int = MANIFEST_VERSION
    weights: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Return the manifest whose ``dataclasses.asdict`` is *value*."""
        labels = value.get("labels")
        labels = None if labels is None else tuple(labels)
        return cls(**{**value, "route": tuple(value["route"]), "labels": labels})


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file (with its external data, if any) that a backend can load.

    Attributes:
        id: Hash of the inputs that made it, hex; the store's key.
        precision: Precision of the stored weights and graph (a backend may execute lower).
        size_bytes: Of all its files together.
        data: Its files beside `path`: external data, or the weights of an IR.
    """

    id: str
    model: str
    format: Format
    precision: str
    path: Path
    size_bytes: int
    signature: Signature
    manifest: Manifest
    data: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "model": self.model,
            "format": self.format,
            "precision": self.precision,
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "signature": self.signature.to_json(),
            "manifest": asdict(self.manifest),
            "data": [str(path) for path in self.data],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Artifact:
        """Return the artifact whose JSON form is *value*."""
        manifest = Manifest.from_json(value["manifest"])
        signature = Signature.from_json(value["signature"])
        return cls(
            **{
                **value,
                "path": Path(value["path"]),
                "signature": signature,
                "manifest": manifest,
                "data": tuple(Path(path) for path in value["data"]),
            }
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of *path*'s bytes, in hex.

    Raises:
        ArtifactError: The file can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: can't be read: {error.strerror}.") from error
