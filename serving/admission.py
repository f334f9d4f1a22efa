"""What must hold before a policy is prepared: a free state folder, keys, a certificate.

Imports nothing of the runtime's weight, so that a fault shows at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from scanflow_serve.policies.errors import PolicyError, UsageError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.policies.schema import Auth
from scanflow_serve.runtime.folders import state_folder
from scanflow_serve.serving import kept_policy, keys
from scanflow_serve.serving.locks import StateLock


def lock_state(policy_file: PolicyFile, override: str | None = None) -> StateLock:
    """Return the lock of the policy's state folder.

    Raises:
        StateError: A live server uses it, or it can't be written.
    """
    policy = policy_file.policy
    return StateLock.acquire(state_folder(policy_file.folder, policy.name, policy.state, override))


def in_force(policy_file: PolicyFile, state: Path, environ: Mapping[str, str]) -> PolicyFile:
    """Return what to serve: a policy accepted by ``PUT /policy`` since, else *policy_file*.

    One that can no longer be served is passed over, and standard error says so.

    Raises:
        UsageError: The keys that the accepted policy asks for can't be had.
    """
    try:
        accepted = kept_policy.accepted(policy_file, state)
    except PolicyError as error:
        _say(f"the policy accepted by PUT /policy can't be served any more:\n{error}")
        _say(f"serving {policy_file.path} as it is on disk.")
        return policy_file
    if accepted is None or accepted.text == policy_file.text:
        return policy_file
    require_keys(accepted, environ)
    _say(
        f"serving the policy accepted by PUT /policy; {policy_file.path} is as it was then. "
        "Edit the file, or PUT its text, to serve that."
    )
    return accepted


def _say(text: str) -> None:
    print(f"scanflow-serve: {text}", file=sys.stderr, flush=True)


def require_keys(policy_file: PolicyFile, environ: Mapping[str, str]) -> None:
    """Check that the keys that the policy asks for can be had, before anything is measured.

    Raises:
        UsageError: They can't; the text says what to do.
    """
    auth = policy_file.policy.serve.auth
    if isinstance(auth, Auth):
        keys.load_keys(auth, policy_file.folder, environ)


def require_certificate(policy_file: PolicyFile) -> None:
    """Check that the files of ``serve.tls`` can be served with.

    Raises:
        UsageError: They are no PEM files, don't belong together, or the key has a passphrase.
    """
    tls = policy_file.policy.serve.tls
    if tls is None:
        return
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            policy_file.folder / tls.certificate,
            policy_file.folder / tls.key,
            password="",  # else OpenSSL asks the terminal for it
        )
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            "serve.tls: must name a PEM certificate and its key without a passphrase, got "
            f"{tls.certificate!r} and {tls.key!r} ({getattr(error, 'reason', None) or error}). "
            "Export both again."
        ) from error
