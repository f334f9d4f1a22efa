"""Where things are kept: what a policy learns (state), and what policies share (cache)."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_state_path

APP = "scanflow-serve"


def cache_folder() -> Path:
    """Return the folder of artifacts and measurements, shared between policies.

    ``SCANFLOW_CACHE`` overrides the user's cache folder.
    """
    override = os.environ.get("SCANFLOW_CACHE")
    return Path(override) if override else user_cache_path(APP)


def state_folder(folder: Path, name: str, configured: str | None, override: str | None) -> Path:
    """Return where the policy *name*, whose file lies in *folder*, keeps what it learns.

    Args:
        configured: The policy's ``state`` key, relative to *folder*.
        override: The command's ``--state``, relative to the working directory.

    Returns:
        *override*, else *configured*, else ``state/NAME`` beside the policy, or in the user's
        state folder where the policy's folder is not writable.
    """
    if override is not None:
        return Path(override).absolute()
    wanted = folder / (configured or f"state/{name}")
    existing = next(path for path in (wanted, *wanted.parents) if path.exists())
    if os.access(existing, os.W_OK):
        return wanted
    return user_state_path(APP) / name
