"""From a policy file to a server: everything that may fail is tried before anything is measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.serving import admission, listening
from scanflow_serve.serving.child import Child
from scanflow_serve.serving.launch import FILE as SERVED
from scanflow_serve.serving.launch import Launch, become_server, environment, launch
from scanflow_serve.serving.progress import progress

if TYPE_CHECKING:
    from scanflow_serve.serving.deployment import Deployment


def serve(
    path: Path, *, port: int | None, bind: str | None, state: str | None, recalibrate: bool
) -> None:
    """Prepare and serve the policy at *path*; does not return.

    Raises:
        ScanflowError: The policy has faults, the state folder or the port is in use, keys or
            the certificate can't be had, or no candidate can be served.
    """
    policy_file = load_policy(path)
    settings = policy_file.policy.serve
    address = bind or settings.host
    listening.refuse_open_door(settings, address)
    admission.require_keys(policy_file, os.environ)
    admission.require_certificate(policy_file)
    lock = admission.lock_state(policy_file, state)
    policy_file = admission.in_force(policy_file, lock.state, os.environ)
    sock = listening.bind(address, settings.port if port is None else port)
    start = launch(policy_file.policy, policy_file.folder, lock, sock)
    worker = _early_worker(start) if not recalibrate else None
    from scanflow_serve.serving import deployment  # 0.3 s, while the worker does its own

    with progress("measuring") as report:
        ready = deployment.prepare_state(
            policy_file, lock, recalibrate=recalibrate, progress=report
        )
    _introduce(policy_file, ready, start)
    become_server(start, lock, sock, worker)


def _early_worker(start: Launch) -> Child | None:
    """Return a worker that imports BentoML while the plan is made, if the plan will be quick.

    Where this state has been served before, all figures are known; else they are about to be
    measured, and a busy second process would spoil them.
    """
    if start.server != "bentoml" or not Path(start.state, SERVED).exists():
        return None
    return Child.spawn(start, environment(start), waits=True)


def _introduce(policy_file: PolicyFile, ready: Deployment, start: Launch) -> None:
    """Say what runs, why, and where."""
    from scanflow_serve.serving.report import print_plan

    print_plan(ready.prepared.plan)
    name = policy_file.policy.name
    for what, path in (
        ("predict", "/predict"),
        ("OIP v2", f"/v2/models/{name}/infer"),
        ("why", "/plan"),
        ("docs", "/docs"),
        ("metrics", "/metrics"),
    ):
        print(f"  {what:<8} {start.url}{path}")
    sys.stdout.flush()
