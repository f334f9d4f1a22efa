"""``keys``: the bearer keys of clients."""

from __future__ import annotations

import os
from pathlib import Path

import click

from scanflow_serve.serving.commands.options import Debuggable, json_option, policy_argument


@click.group(epilog="Example: scanflow-serve keys new camera-7 --scope predict")
def keys() -> None:
    """Make and list the bearer keys of clients."""


@keys.command(cls=Debuggable, epilog="Example: scanflow-serve keys new ops --scope admin")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("predict",),
    show_default=True,
    type=click.Choice(["predict", "feedback", "admin"]),
    help="What the key may do; several times for several.",
)
@json_option
def new(name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a key for NAME: the secret for the client, the line for the server.

    The secret is shown once and kept nowhere. Put the line into the environment variable of
    serve.auth.keys_from_env (several: commas) or into serve.auth.keys_file (a line each).
    """
    import json

    from scanflow_serve.serving.keys import new_key

    secret, line = new_key(name, scopes)
    if as_json:
        click.echo(json.dumps({"name": name, "secret": secret, "line": line}))
        return
    click.echo(f"secret (for the client):  {secret}")
    click.echo(f"line   (for the server):  {line}")


@keys.command("list", cls=Debuggable, epilog="Example: scanflow-serve keys list digits.yaml")
@policy_argument
@json_option
def list_(policy: Path, as_json: bool) -> None:
    """List the names and scopes of the keys that POLICY's server accepts."""
    import json

    from scanflow_serve.policies.errors import UsageError
    from scanflow_serve.policies.loader import load_policy
    from scanflow_serve.policies.schema import Auth
    from scanflow_serve.serving.keys import SCOPES, load_keys

    policy_file = load_policy(policy)
    auth = policy_file.policy.serve.auth
    if not isinstance(auth, Auth):
        raise UsageError(
            f"{policy}: serve.auth must say where the keys are, got {auth!r}. "
            "Write serve: {auth: {keys_from_env: SCANFLOW_KEYS}}."
        )
    found = load_keys(auth, policy_file.folder, os.environ).keys
    rows = [(key.name, [scope for scope in SCOPES if scope in key.scopes]) for key in found]
    if as_json:
        click.echo(json.dumps([{"name": name, "scopes": scopes} for name, scopes in rows]))
        return
    for name, scopes in rows:
        click.echo(f"{name}  {'+'.join(scopes)}")
