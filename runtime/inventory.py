"""What an artifact store holds, and what cleaning it up has removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scanflow_serve.runtime.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact in the store.

    Attributes:
        artifact: None if `fault` says why it can't be served.
        size_bytes: On the disk, manifest included.
        used_at: When it was last found or made.
    """

    key: str
    artifact: Artifact | None
    fault: str | None
    size_bytes: int
    used_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "key": self.key,
            "artifact": self.artifact and self.artifact.to_json(),
            "fault": self.fault,
            "size_bytes": self.size_bytes,
            "used_at": self.used_at.isoformat(timespec="seconds"),
        }


@dataclass(frozen=True, slots=True)
class Collected:
    """What `ArtifactStore.gc` did.

    Attributes:
        removed: Least recently used first.
        kept_bytes: Of the artifacts that stay.
        held: Would have gone, but a live process has them.
    """

    removed: tuple[Entry, ...]
    kept_bytes: int
    held: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "removed": [entry.to_json() for entry in self.removed],
            "kept_bytes": self.kept_bytes,
            "held": [entry.to_json() for entry in self.held],
        }
