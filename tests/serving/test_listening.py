"""Ports and addresses: faults show before anything is measured, and nothing is open by accident."""

from __future__ import annotations

import socket

import pytest

from scanflow_serve.policies.errors import StateError, UsageError
from scanflow_serve.policies.schema import Auth, Serve
from scanflow_serve.serving import listening

KEYS = Auth(keys_from_env="SCANFLOW_KEYS")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7", "pi.local"])
def test_open_address_without_keys_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"must be a loopback address.*auth: \{keys_from_env"):
        listening.refuse_open_door(Serve(), address)


@pytest.mark.parametrize("serve", [Serve(auth="none"), Serve(auth=KEYS)])
def test_open_address_is_allowed_with_keys_or_when_the_policy_says_so(serve: Serve) -> None:
    listening.refuse_open_door(serve, "0.0.0.0")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(address: str) -> None:
    listening.refuse_open_door(Serve(), address)


def test_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            StateError, match=rf"127\.0\.0\.1:{port}: the port must be free.*--port"
        ):
            listening.bind("127.0.0.1", port)


def test_port_that_another_starts_to_listen_on_meanwhile_is_named() -> None:
    with listening.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listening.bind("127.0.0.1", port) as second:
            listening.listen(first)
            with pytest.raises(StateError, match="the port must be free"):
                listening.listen(second)


def test_port_is_closed_until_it_listens() -> None:
    with listening.bind("127.0.0.1", 0) as sock:
        address = sock.getsockname()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError, match="refused"):
            client.connect(address)
        listening.listen(sock)
        with socket.socket() as client:
            client.connect(address)


@pytest.mark.parametrize("address", ["198.51.100.7", "no such name"])
def test_address_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--bind: must be an address of this machine, got"):
        listening.bind(address, 0)


def test_port_zero_picks_a_free_one_and_the_url_names_it() -> None:
    with listening.bind("0.0.0.0", 0) as sock:
        port = sock.getsockname()[1]
        assert port > 0
        assert listening.url(sock, tls=False) == f"http://127.0.0.1:{port}"
        assert listening.url(sock, tls=True) == f"https://127.0.0.1:{port}"
