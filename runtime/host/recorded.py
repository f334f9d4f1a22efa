"""Profiles that were written to a file, to plan for a machine that is not this one."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.host.model import HostProfile

_CURE = "Record one on that machine: scanflow-serve profile --json > host.json"


def load_profile(path: str | Path) -> HostProfile:
    """Return the profile that ``scanflow-serve profile --json`` wrote to *path*.

    Raises:
        UsageError: The file can't be read, is not JSON, or a member is missing, unknown or of
            the wrong type; all such members are listed.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: must be readable, got {error.strerror!r}. {_CURE}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: must be JSON, got {str(error)!r}. {_CURE}") from None
    if not isinstance(document, dict):
        found = type(document).__name__
        raise UsageError(f"{path}: must be a JSON object, got {found!r}. {_CURE}")
    try:
        return HostProfile.from_json(document)
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}, "
            f"got {repr(fault['input'])[:80]}."
            for fault in error.errors(include_url=False)
        ]
        raise UsageError("\n".join([*faults, _CURE])) from None
