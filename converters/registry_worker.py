"""The child process that talks to an MLflow registry, with what mlflow-skinny has.

mlflow stays out of the process that serves: it takes 2 s and 100 MB to import.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanflow_serve.converters.mlmodel import public
from scanflow_serve.converters.origins.in_child import RESULT, begin
from scanflow_serve.converters.origins.mlflow_client import (
    KEY,
    be_impatient,
    cure,
    resolve,
    usable,
)

EXPERIMENT = "scanflow-serve"
SOURCE = "scanflow.source_version"
_KEY = re.compile(r"[0-9a-f]{64}")


def main() -> None:
    """Do the job on stdin; leave the outcome as ``result.json`` in its folder."""
    job = begin()
    be_impatient()
    action = {"publish": _publish, "find": _find, "download": _download}[job["action"]]
    from mlflow.exceptions import MlflowException

    try:
        result = action(job)
    except (MlflowException, OSError, ImportError) as error:
        result = {"error": f"{job['where']}: {_sentence(job, error)}"}
    (Path(job["folder"]) / RESULT).write_text(json.dumps(result))


def _publish(job: Mapping[str, Any]) -> dict[str, Any]:
    from mlflow.exceptions import MlflowException

    client, name = _client(job), job["name"]
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    key = job["tags"][KEY]
    found = next((v for v in usable(client, name) if v.tags.get(KEY) == key), None)
    version = found or _create(client, job)
    if job["alias"]:
        client.set_registered_model_alias(name, job["alias"], version.version)
    return {
        "version": str(version.version),
        "run_id": version.run_id or "",
        "created": found is None,
    }


def _create(client: Any, job: Mapping[str, Any]) -> Any:
    """Return a new version; it is made when all its files are there, and has its tags at once."""
    tags = job["tags"]
    title = f"{tags['scanflow.model']} {tags['scanflow.format']} {tags['scanflow.precision']}"
    run = client.create_run(_experiment(client), tags=tags, run_name=title)
    status = "FAILED"
    try:
        client.log_artifacts(run.info.run_id, job["artifact"], "model/artifact")
        client.log_artifacts(run.info.run_id, job["model"], "model")
        _log_metrics(client, run.info.run_id, job["metrics"])
        version = client.create_model_version(
            job["name"],
            f"{run.info.artifact_uri}/model",
            run.info.run_id,
            tags=tags,
            description=f"{title}, made by scanflow-serve from {tags['scanflow.source']}",
        )
        status = "FINISHED"
    finally:
        client.set_terminated(run.info.run_id, status)
    return version


def _log_metrics(client: Any, run_id: str, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(n, v, now_ms, 0) for n, v in metrics.items()])


def _experiment(client: Any) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT))
        except MlflowException as error:  # another process was first
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id)


def _find(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the version that an address stands for, and the converted models of it."""
    client = _client(job)
    version = resolve(client, job["address"])
    address = f"models:/{version.name}/{version.version}"
    if KEY in version.tags:
        offered = [version]
    else:
        offered = [v for v in usable(client, version.name) if v.tags.get(SOURCE) == address]
    return {"address": address, "offers": [_offer(v) for v in offered if _is_whole(v)]}


def _is_whole(version: Any) -> bool:
    """Return whether a version's tags are such as `publish` writes."""
    needed = ("scanflow.model", "scanflow.format", "scanflow.precision")
    tagged = all(version.tags.get(name) for name in needed)
    return bool(tagged and version.run_id and _KEY.fullmatch(version.tags[KEY]))


def _offer(version: Any) -> dict[str, str]:
    names = ("key", "model", "format", "precision")
    described = {name: version.tags[f"scanflow.{name}"] for name in names}
    return {"version": str(version.version), "run_id": version.run_id, **described}


def _download(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return why those failed that could not be downloaded, by key."""
    from mlflow.exceptions import MlflowException

    client = _client(job)
    failed: dict[str, str] = {}
    for key, run_id in job["runs"].items():
        target = Path(job["folder"], key)
        target.mkdir()
        try:
            for part in ("artifact", "probe"):
                got = client.download_artifacts(run_id, f"model/{part}", str(target))
                Path(got).rename(target / part)
        except (MlflowException, OSError, ImportError) as error:
            failed[key] = f"{job['where']}: {_sentence(job, error)}"
    return {"failed": failed}


def _client(job: Mapping[str, Any]) -> Any:
    from mlflow import MlflowClient, set_tracking_uri

    # Artifacts of a run are reached through the global address, whatever the client's.
    set_tracking_uri(job["uri"])
    return MlflowClient(tracking_uri=job["uri"], registry_uri=job["uri"])


def _sentence(job: Mapping[str, Any], error: Exception) -> str:
    """Return what went wrong at which server, and what to do."""
    text = public(" ".join(str(error).split()).rstrip("."))
    verb = "take" if job["action"] == "publish" else "have"
    rule = f"the MLflow server {public(job['uri'])} must {verb} {job['address']}"
    return f"{rule}, got: {text}. {cure(error, named='--tracking-uri')}".rstrip()


if __name__ == "__main__":
    main()
