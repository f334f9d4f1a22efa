"""Alarms recorded in MLflow, by a child process: a run each, in the policy's experiment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.process import run_module

WORKER = "scanflow_serve.runtime.alarm_record"
TIMEOUT_S = 120.0  # mlflow takes seconds to import on a small board
# A device may serve without it: it is said at the start, and of each alarm.
INSTALL = "mlflow is not installed. Run: pip install 'scanflow-serve[track]'"
Record = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class AlarmRecords:
    """Records alarms; call it with the CloudEvent of each.

    Attributes:
        uri: Of the tracking server, or ``sqlite:///`` of an absolute path.
        experiment: Made if it is not there.
    """

    uri: str
    experiment: str
    policy: str

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Record *event*.

        Raises:
            OSError: MLflow does not take it, or is not installed; says why.
        """
        if find_spec("mlflow") is None:
            raise OSError(INSTALL)
        job = {
            "uri": self.uri,
            "experiment": self.experiment,
            "policy": self.policy,
            "at_ms": int(time.time() * 1000),
            "event": dict(event),
        }
        ending = run_module(WORKER, job, timeout_s=TIMEOUT_S)
        if ending.status != 0:
            raise OSError(f"{self.uri} {ending}")


def alarm_records(policy_file: PolicyFile) -> Record | None:
    """Return what records the policy's alarms, None if it has no ``track``."""
    policy = policy_file.policy
    if policy.track is None:
        return None
    from scanflow_serve.converters.origins.mlflow_models import tracking_uri

    uri = tracking_uri("track", policy_file)
    return AlarmRecords(uri, policy.track.experiment or policy.name, policy.name)
