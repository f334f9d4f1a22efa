"""Finds checks by the entry point ``scanflow_serve.checks``, and makes them as a policy says.

Ours are found as any third party's are. A factory takes the `Setting` and the policy's settings
as keywords, and returns a `Score`, of which the host makes a check, or a `Check`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from scanflow_serve.policies.errors import ScanflowError, UsageError
from scanflow_serve.runtime.checks.protocol import Check, Score
from scanflow_serve.runtime.checks.rows import Setting

GROUP = "scanflow_serve.checks"


def found() -> dict[str, EntryPoint]:
    """Return the installed checks by their type, without importing them."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def make(
    kind: str, setting: Setting, settings: Mapping[str, Any], where: str = "checks"
) -> Score | Check:
    """Return a check of the type *kind*.

    Args:
        settings: The policy's, without what the host itself reads.
        where: Place in the policy, for errors.

    Raises:
        UsageError: The type is not installed, can't be imported, or refuses its settings.
        MissingExtraError: It needs a package that an extra of ours installs.
    """
    installed = found()
    if kind not in installed:
        raise UsageError(
            f"{where}: must be an installed check, got {kind!r}. "
            f"Installed: {', '.join(sorted(installed))}."
        )
    try:
        factory = installed[kind].load()
    except Exception as error:  # a third party's module may raise whatever it likes
        package = installed[kind].dist
        raise UsageError(
            f"{where}: {kind} must be importable, got {type(error).__name__}: {error}. "
            f"Install {package.name if package else kind} with all that it needs."
        ) from error
    try:
        inspect.signature(factory).bind(setting, **settings)
    except TypeError as error:
        raise UsageError(f"{where}: settings must be {kind}'s own, {error}.") from None
    try:
        made = factory(setting, **settings)
    except ScanflowError:
        raise
    except Exception as error:
        told = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"{where}: {told}") from error
    if not isinstance(made, Score | Check):
        raise UsageError(
            f"{where}: {kind} must give a Score or a Check, got {type(made).__name__}. "
            f"See scanflow_serve.runtime.checks.protocol."
        )
    return made
