"""What must hold before a policy is prepared: a free state folder, keys, a certificate.

Imports nothing of the runtime's weight, so that a fault shows at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from scanflow_serve.policies.errors import UsageError
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
