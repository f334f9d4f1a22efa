"""Environment variables of ours, between the processes of one server."""

from __future__ import annotations

POLICY = "SCANFLOW_POLICY"  # the policy file that `bentoml serve` serves
STATE = "SCANFLOW_STATE"  # the state folder that holds the prepared plan
PARENT = "SCANFLOW_PARENT"  # pid that the workers must not outlive
TRACING = "SCANFLOW_TRACING"  # set where the policy says serve: {tracing: true}
