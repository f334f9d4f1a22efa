"""The child process that talks to an MLflow server: mlflow costs 2 s and 170 MB to import."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanflow_serve.converters.origins.in_child import RESULT
from scanflow_serve.runtime.process import die_with_parent

# mlflow's own defaults make an unreachable server take minutes to report.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


def main() -> None:
    """Resolve or download the address of the job on stdin; leave the outcome in its folder."""
    die_with_parent()
    job = json.load(sys.stdin)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    action = {"resolve": _resolve, "download": _download}[job["action"]]
    from mlflow.exceptions import MlflowException

    try:
        result = action(job)
    except (MlflowException, OSError) as error:
        text = " ".join(str(error).split()).rstrip(".")
        result = {
            "error": f"{job['where']}: {job['address']} must be at the MLflow server "
            f"{_public(job['uri'])}, got: {text}."
        }
    (Path(job["folder"]) / RESULT).write_text(json.dumps(result))


def _resolve(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the address that can't change, and what the server says of it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    scheme, _, rest = str(job["address"]).partition(":/")
    if scheme == "runs":
        return {"address": job["address"], "details": {"run_id": rest.partition("/")[0]}}
    client = MlflowClient(tracking_uri=job["uri"], registry_uri=job["uri"])
    if "@" in rest:
        name, _, alias = rest.partition("@")
        found = client.get_model_version_by_alias(name, alias)
    else:
        name, _, version = rest.partition("/")
        if version == "latest":
            versions = client.search_model_versions(f"name = '{name}'")
            if not versions:
                raise MlflowException(f"Registered Model with name={name} not found")
            found = max(versions, key=lambda v: int(v.version))
        else:
            found = client.get_model_version(name, version)
    details = {"name": found.name, "version": str(found.version), "run_id": found.run_id or ""}
    return {"address": f"models:/{found.name}/{found.version}", "details": details}


def _download(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the folder, within the job's, that the model's files are in."""
    import mlflow

    mlflow.set_tracking_uri(job["uri"])
    mlflow.set_registry_uri(job["uri"])
    target = Path(job["folder"]) / "model"
    target.mkdir()
    got = mlflow.artifacts.download_artifacts(artifact_uri=job["address"], dst_path=str(target))
    return {"folder": str(Path(got).resolve().relative_to(Path(job["folder"]).resolve()))}


def _public(uri: str) -> str:
    """Return *uri* without a password."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


if __name__ == "__main__":
    main()
