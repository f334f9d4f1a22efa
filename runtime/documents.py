"""JSON documents that one machine wrote and another reads: every fault is named, with its cure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from scanflow_serve.policies.errors import UsageError

T = TypeVar("T")


def read_document(path: Path, parse: Callable[[Mapping[str, Any]], T], cure: str) -> T:
    """Return what *parse* makes of the JSON object in *path*.

    Args:
        cure: What to do about a bad document; ends every message.

    Raises:
        UsageError: The file can't be read, is not a JSON object, or *parse* raised a
            ValidationError, of which every member is listed.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: must be readable, got {error.strerror!r}. {cure}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: must be JSON, got {str(error)!r}. {cure}") from None
    if not isinstance(document, dict):
        found = type(document).__name__
        raise UsageError(f"{path}: must be a JSON object, got {found!r}. {cure}")
    try:
        return parse(document)
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}, "
            f"got {repr(fault['input'])[:80]}."
            for fault in error.errors(include_url=False)
        ]
        raise UsageError("\n".join([*faults, cure])) from None
