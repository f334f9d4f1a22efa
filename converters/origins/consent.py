"""Pickles run code of whoever wrote them as they are loaded: a person must say that they may."""

from __future__ import annotations

from pathlib import Path

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.policies.schema import CONSENT


def require_consent(where: str, path: Path, what: str, safe: str, *, trusted: bool) -> None:
    """Return if the policy consents to loading *path*.

    Args:
        what: Why it is needed, such as ``a pickle``.
        safe: How the model can be saved without, a sentence.

    Raises:
        ArtifactError: It does not; says which line would.
    """
    if not trusted:
        raise ArtifactError(
            f"{where}: {path.name} must not run code as it is loaded, got {what}. {safe} Or, if "
            f'you know who wrote it, add to the model in the policy: trust_pickle: "{CONSENT}" '
            f'(scanflow-serve convert: --trust-pickle "{CONSENT}")'
        )
