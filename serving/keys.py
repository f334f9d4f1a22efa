"""Bearer keys: who may ask for what.

A key's line is ``NAME:SCOPE[+SCOPE]:SHA256HEX``; the server never sees the secret but in a
request. A key is 32 random bytes, so a plain SHA-256 is enough: nobody can guess its input.

===========  ==============================================================================
scope        opens
===========  ==============================================================================
predict      predictions, and what a client must know of the models (all of ``/v2``)
feedback     ``/feedback…``
admin        ``/policy``, and whatever changes what runs
any of them  ``/host``, ``/plan``, ``/metrics``
no key       health (``/livez``, ``/readyz``, ``/v2/health/…``, ``/ping``), ``/v2``, ``/version``,
             ``/docs``, ``/openapi.json``
===========  ==============================================================================
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scanflow_serve.policies.errors import RequestError, UsageError
from scanflow_serve.policies.schema import Auth

SCOPES: tuple[str, ...] = ("predict", "feedback", "admin")
FORM = "NAME:SCOPE[+SCOPE]:SHA256HEX"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key, as far as the server knows it."""

    name: str
    scopes: frozenset[str]
    digest: str  # SHA-256 of the secret, hex

    def line(self) -> str:
        """Return the key's line, ``NAME:SCOPE[+SCOPE]:SHA256HEX``."""
        scopes = "+".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that open this server."""

    keys: tuple[Key, ...]

    def key(self, authorization: str | None) -> Key:
        """Return the key that an ``Authorization`` header presents.

        Raises:
            RequestError: 401, there is none, or it is unknown.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise RequestError(401, "A key is required. Send it as Authorization: Bearer KEY.")
        digest = hashlib.sha256(secret.strip().encode("latin-1", "replace")).hexdigest()
        found: Key | None = None
        for key in self.keys:  # all of them, always: the time taken tells nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise RequestError(401, "The key is unknown. Ask the operator of this server for one.")
        return found


def require(key: Key, scope: Literal["predict", "feedback", "admin", "any"]) -> None:
    """Hold *key* to the scope that a route needs.

    Raises:
        RequestError: 403, it lacks that scope.
    """
    if scope != "any" and scope not in key.scopes:
        held = "+".join(sorted(key.scopes))
        raise RequestError(403, f"Key {key.name!r} must have scope {scope}, got {held}.")


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """Return a new secret, and the line by which a server knows it.

    Raises:
        UsageError: The name or a scope is not one.
    """
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return secret, parse_line(f"{name}:{'+'.join(scopes)}:{digest}", "new key").line()


def parse_line(line: str, where: str) -> Key:
    """Return the key of one line.

    Raises:
        UsageError: It is not ``NAME:SCOPE[+SCOPE]:SHA256HEX``; the text never shows the digest.
    """
    parts = line.strip().split(":")
    if len(parts) != 3:
        raise UsageError(f"{where}: a key must read {FORM}, got {len(parts)} parts. {_CURE}")
    name, scopes, digest = parts
    if not _NAME.fullmatch(name):
        raise UsageError(f"{where}: a key's name must match {_NAME.pattern}, got {name!r}.")
    given = scopes.split("+")
    if unknown := [scope for scope in given if scope not in SCOPES]:
        raise UsageError(
            f"{where}: key {name!r}: a scope must be one of {', '.join(SCOPES)},"
            f" got {unknown[0]!r}."
        )
    if not _DIGEST.fullmatch(digest.lower()):
        raise UsageError(
            f"{where}: key {name!r}: the last part must be the secret's SHA-256, 64 hex digits,"
            f" got {len(digest)} characters. {_CURE}"
        )
    return Key(name, frozenset(given), digest.lower())


_CURE = "Make one: scanflow-serve keys new NAME."


def load_keys(auth: Auth, folder: Path, environ: Mapping[str, str]) -> Keyring:
    """Return the keys that the policy's ``serve.auth`` names.

    Args:
        folder: The policy's; ``keys_file`` is relative to it and may not leave it.

    Raises:
        UsageError: The variable is unset, the file can't be read, a line is malformed, two keys
            have one name, or there is no key at all.
    """
    if auth.keys_from_env is not None:
        where = f"serve.auth.keys_from_env ({auth.keys_from_env})"
        text = environ.get(auth.keys_from_env)
        if text is None:
            raise UsageError(
                f"{where}: the environment variable must be set, got nothing. Make a key with"
                " 'scanflow-serve keys new NAME', and put its line there (several: commas)."
            )
        lines = text.split(",")
    else:
        where = f"serve.auth.keys_file ({auth.keys_file})"
        lines = _file_lines(folder, str(auth.keys_file), where)
    keys = tuple(
        parse_line(line, where)
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
    )
    if not keys:
        raise UsageError(f"{where}: must hold at least one key, got none. {_CURE}")
    names = [key.name for key in keys]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{where}: names must be unique, got {twice!r} twice.")
    return Keyring(keys)


def _file_lines(folder: Path, relative: str, where: str) -> list[str]:
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UsageError(f"{where}: must lie in the policy's folder, got {str(path)!r}.")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: must be a readable text file: {error}.") from None
