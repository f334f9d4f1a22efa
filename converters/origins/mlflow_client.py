"""What the child processes that talk to MLflow share: versions, patience, and cures.

Converted models are published under the same name as their source, so that the newest version is
not always a source: what bears the tag `KEY` was made here.
"""

from __future__ import annotations

import os
import re
from typing import Any

KEY = "scanflow.key"
# mlflow's own defaults make an unreachable server take minutes to report.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_AUTH = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
_MISSING = "Look up its name, versions and aliases in MLflow."


def be_impatient() -> None:
    """Give up on a server that does not answer after a minute, unless the environment says else."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


def resolve(client: Any, address: str) -> Any:
    """Return the version that *address* stands for; ``latest`` is the last that is a source.

    Raises:
        mlflow.exceptions.MlflowException: There is none, or the server does not answer.
    """
    from mlflow.exceptions import MlflowException

    rest = address.removeprefix("models:/")
    if "@" in rest:
        name, _, alias = rest.partition("@")
        return client.get_model_version_by_alias(name, alias)
    name, _, number = rest.partition("/")
    if number != "latest":
        return client.get_model_version(name, number)
    sources = [version for version in usable(client, name) if KEY not in version.tags]
    if not sources:
        raise MlflowException(f"Version of {name} that is no converted model not found")
    return sources[-1]


def usable(client: Any, name: str) -> list[Any]:
    """Return the versions of registered model *name* whose files are there, oldest first."""
    token, found = None, []
    quoted = name.replace("'", "''")
    while True:
        page = client.search_model_versions(f"name = '{quoted}'", page_token=token)
        found += [version for version in page if version.status == "READY"]
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def cure(error: Exception, *, named: str) -> str:
    """Return what to do about *error*; empty where it says so itself.

    Args:
        named: Where a person names the server.
    """
    text = str(error)
    if re.search(r"\b(401|403)\b", text):
        return _AUTH
    if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" or "not found" in text:
        return _MISSING
    if isinstance(error, ImportError):
        return "Install it here: the server's artifacts are kept where it is needed."
    if re.search(r"[Mm]ax retries|[Cc]onnection|[Tt]imed? ?out", text):
        return f"Start the server, or name it in {named} or MLFLOW_TRACKING_URI."
    return ""
