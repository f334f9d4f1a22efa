"""What must hold before a policy is prepared: its state folder is free, its keys can be had.

Imports nothing of the runtime's weight, so that a fault shows at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Auth
from scanflow_serve.runtime.folders import state_folder
from scanflow_serve.serving import keys
from scanflow_serve.serving.locks import StateLock


def lock_state(policy_file: PolicyFile, override: str | None = None) -> StateLock:
    """Return the lock of the policy's state folder.

    Raises:
        StateError: A live server uses it, or it can't be written.
    """
    policy = policy_file.policy
    return StateLock.acquire(state_folder(policy_file.folder, policy.name, policy.state, override))


def require_keys(policy_file: PolicyFile, environ: Mapping[str, str]) -> None:
    """Check that the keys that the policy asks for can be had, before anything is measured.

    Raises:
        UsageError: They can't; the text says what to do.
    """
    auth = policy_file.policy.serve.auth
    if isinstance(auth, Auth):
        keys.load_keys(auth, policy_file.folder, environ)
