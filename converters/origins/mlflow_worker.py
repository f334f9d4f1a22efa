"""The child process that talks to an MLflow server: mlflow costs 2 s and 170 MB to import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanflow_serve.converters.mlmodel import public
from scanflow_serve.converters.origins.in_child import RESULT, begin
from scanflow_serve.converters.origins.mlflow_client import be_impatient, cure, resolve


def main() -> None:
    """Resolve or download the address of the job on stdin; leave the outcome in its folder."""
    job = begin()
    be_impatient()
    action = {"resolve": _resolve, "download": _download}[job["action"]]
    from mlflow.exceptions import MlflowException

    try:
        result = action(job)
    except (MlflowException, OSError, ImportError) as error:
        text = " ".join(str(error).split()).rstrip(".")
        rule = f"{job['address']} must be at the MLflow server {job['uri']}, got: {text}."
        result = {
            "error": public(f"{job['where']}: {rule} {cure(error, named='track.uri')}".rstrip())
        }
    (Path(job["folder"]) / RESULT).write_text(json.dumps(result))


def _resolve(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the address that can't change, and what the server says of it."""
    from mlflow import MlflowClient

    address = str(job["address"])
    if address.startswith("runs:/"):
        run_id = address.removeprefix("runs:/").partition("/")[0]
        return {"address": address, "details": {"run_id": run_id}}
    found = resolve(MlflowClient(tracking_uri=job["uri"], registry_uri=job["uri"]), address)
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


if __name__ == "__main__":
    main()
