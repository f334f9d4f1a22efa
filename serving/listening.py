"""The socket that a server listens on: bound before anything is measured, so faults show early."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

from scanflow_serve.policies.errors import StateError, UsageError

if TYPE_CHECKING:  # pydantic must not stay in the server's parent
    from scanflow_serve.policies.schema import Serve


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach *address*.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def refuse_open_door(serve: Serve, address: str) -> None:
    """Refuse to be reachable from elsewhere without keys, unless the policy says so.

    Raises:
        UsageError: *address* is not loopback and ``serve.auth`` is not set.
    """
    if serve.auth is None and not is_loopback(address):
        raise UsageError(
            f"serve.host: must be a loopback address while serve.auth is unset, got {address!r}. "
            "Write serve: {auth: {keys_from_env: SCANFLOW_KEYS}} and make a key with "
            "'scanflow-serve keys new', or serve: {auth: none} to let anyone in."
        )


def bind(address: str, port: int) -> socket.socket:
    """Return a bound socket that does not listen yet; port 0 picks a free one.

    Raises:
        UsageError: *address* is not an address of this machine.
        StateError: The port is in use, or may not be bound.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UsageError(
            f"--bind: must be an address of this machine, got {address!r} ({error.strerror}). "
            "Give for example 127.0.0.1."
        ) from error
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(target)
    except OSError as error:
        sock.close()
        raise _explained(error, address, port) from error
    return sock


def listen(sock: socket.socket) -> None:
    """Let clients queue on *sock*; until now they were refused.

    Raises:
        StateError: Another process bound the port at the same time and listens already.
    """
    try:
        sock.listen(socket.SOMAXCONN)
    except OSError as error:
        host, port = sock.getsockname()[:2]
        raise _explained(error, host, port) from error


def url(sock: socket.socket, *, tls: bool) -> str:
    """Return the URL under which a client on this machine reaches *sock*."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{port}"


def _explained(error: OSError, address: str, port: int) -> StateError | UsageError:
    if error.errno == errno.EADDRINUSE:
        return StateError(
            f"{address}:{port}: the port must be free, got one in use. "
            "Stop the other server, or choose another with --port N (0 picks a free one)."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(
            f"--bind: must be an address of this machine, got {address!r}. "
            "Give for example 127.0.0.1."
        )
    return StateError(
        f"{address}:{port}: the port must be bindable, got {error.strerror!r}. "
        "Choose another with --port N."
    )
