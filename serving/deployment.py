"""Preparing a policy for a server: lock the state, profile the host, plan, hand the plan over."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.policies.schema import API_VERSION
from scanflow_serve.runtime import prepare as preparation
from scanflow_serve.runtime.checks.configuration import require_run_lengths
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.prepare import Prepared
from scanflow_serve.serving import admission, composition, environment, kept_policy, listening
from scanflow_serve.serving.image_inputs import require_fit
from scanflow_serve.serving.locks import StateLock
from scanflow_serve.serving.progress import Progress


@dataclass(frozen=True, slots=True)
class Deployment:
    """A prepared plan, and the state folder that holds it and is ours alone."""

    prepared: Prepared
    lock: StateLock


def prepare_state(
    policy_file: PolicyFile,
    lock: StateLock,
    *,
    recalibrate: bool = False,
    progress: Progress | None = None,
) -> Deployment:
    """Plan for this host and keep the plan in the locked state folder.

    Raises:
        ScanflowError: As `plan_into`.
    """
    over = kept_policy.over(policy_file, lock.state)
    prepared = plan_into(policy_file, lock.state, recalibrate=recalibrate, progress=progress)
    kept_policy.keep(policy_file, lock.state, over=over)
    return Deployment(prepared, lock)


def plan_into(
    policy_file: PolicyFile,
    folder: Path,
    *,
    recalibrate: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Plan for this host and keep the plan in *folder*.

    Raises:
        UsageError: ``serve.image`` does not give what the chosen run takes, or a check asks
            for a longer `expected_run_length` than its reference honours.
        ScanflowError: A model can't be read, or no candidate can be measured or is feasible.
    """
    require_run_lengths(policy_file)
    prepared = composition.prepared(
        policy_file, profile_host(), recalibrate=recalibrate, progress=progress
    )
    signatures = {name: each[0].signature for name, each in prepared.artifacts.items()}
    require_fit(policy_file.policy, prepared.plan.chosen.run, signatures)
    preparation.save(prepared, folder)
    return prepared


def deploy(environ: MutableMapping[str, str], *, folder: Path, address: str) -> Deployment:
    """Prepare what ``SCANFLOW_POLICY`` names, in the parent that BentoML starts its workers from.

    The workers find the plan by the environment that they inherit.

    Args:
        folder: What the policy's path is relative to.
        address: Where BentoML is about to listen.

    Raises:
        UsageError: *address* is open to others, and the policy asks for no keys.
        ScanflowError: As `load_policy`, `admission.lock_state` and `prepare_state`.
    """
    policy_file = load_policy(find_policy(environ, folder))
    listening.refuse_open_door(policy_file.policy.serve, address)
    admission.require_keys(policy_file, environ)
    lock = admission.lock_state(policy_file)
    policy_file = admission.in_force(policy_file, lock.state, environ)
    deployment = prepare_state(policy_file, lock)
    environ[environment.STATE] = str(deployment.lock.state)
    environ[environment.PARENT] = str(os.getpid())
    if policy_file.policy.serve.tracing:
        environ[environment.TRACING] = "1"
    return deployment


def find_policy(environ: Mapping[str, str], folder: Path) -> Path:
    """Return the policy that ``SCANFLOW_POLICY`` names, else the only one in *folder*.

    Raises:
        UsageError: The variable is not set, and *folder* does not hold exactly one policy.
    """
    if named := environ.get(environment.POLICY):
        return folder / named
    found = [path for path in sorted(folder.glob("*.yaml")) if API_VERSION in path.read_text()]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"{environment.POLICY}: must name a policy file where {folder} does not hold exactly one, "
        f"got {len(found)} there. Set it, for example {environment.POLICY}=digits.yaml."
    )
