"""What a person types for an artifact's key: as many digits as make it unique."""

from __future__ import annotations

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.store import ArtifactStore


def whole_key(store: ArtifactStore, beginning: str) -> str:
    """Return the one key of an artifact or a refusal in *store* that begins so.

    Raises:
        UsageError: None does, or several.
    """
    keys = {entry.key for entry in store.list()} | store.refusals().keys()
    found = sorted(key for key in keys if key.startswith(beginning.lower()))
    if len(found) != 1:
        raise UsageError(
            f"KEY must begin exactly one artifact's key, got {beginning!r}, which begins "
            f"{len(found)}. See: scanflow-serve artifacts list"
        )
    return found[0]
