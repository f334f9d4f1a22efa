"""The child process that records an alarm in MLflow, with what mlflow-skinny has.

mlflow stays out of the process that serves: it takes 2 s and 100 MB to import.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from scanflow_serve.runtime.process import die_with_parent

LONGEST = 5000  # characters of a tag's value, by MLflow's own bound
# mlflow's own defaults make an unreachable server take minutes to report.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def main() -> None:
    """Record the event on stdin as a finished run; what goes wrong is the last line said."""
    die_with_parent()
    job = json.load(sys.stdin)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        _record(MlflowClient(tracking_uri=job["uri"]), job)
    except (MlflowException, OSError) as error:
        sys.exit(" ".join(str(error).split()))


def _record(client: Any, job: Mapping[str, Any]) -> None:
    event = job["event"]
    data, check = event["data"], event["subject"]
    run = client.create_run(
        _experiment(client, job["experiment"]),
        run_name=f"alarm {check}",
        start_time=job["at_ms"],
        tags={
            "scanflow.event": json.dumps(event)[:LONGEST],
            "scanflow.type": event["type"],
            "scanflow.policy": job["policy"],
            "scanflow.check": check,
            "scanflow.detector": str(data.get("detector") or ""),
            "scanflow.features": str(data.get("features") or "")[:LONGEST],
            "scanflow.since": str(data.get("since") or ""),
        },
    )
    for name in ("score", "rows"):
        if name in data:
            client.log_metric(run.info.run_id, name, data[name])
    client.set_terminated(run.info.run_id, "FINISHED")


def _experiment(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:  # another process was first
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


if __name__ == "__main__":
    main()
