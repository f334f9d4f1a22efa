"""Profiles that were written to a file, to plan for a machine that is not this one."""

from __future__ import annotations

from pathlib import Path

from scanflow_serve.runtime.documents import read_document
from scanflow_serve.runtime.host.model import HostProfile

_CURE = "Record one on that machine: scanflow-serve profile --json > host.json"


def load_profile(path: str | Path) -> HostProfile:
    """Return the profile that ``scanflow-serve profile --json`` wrote to *path*.

    Raises:
        UsageError: The file can't be read, is not JSON, or a member is missing, unknown or of
            the wrong type; all such members are listed.
    """
    return read_document(Path(path), HostProfile.from_json, _CURE)
