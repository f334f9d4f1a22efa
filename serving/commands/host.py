"""``profile``: what this host is and can do."""

from __future__ import annotations

import click

from scanflow_serve.serving.commands.options import command, json_option


@command("profile --json > pi.json")
@json_option
@click.option(
    "--root", default="/", show_default=True, help="Read another machine's files below this folder."
)
def profile(as_json: bool, root: str) -> None:
    """Say what this host is and can do, as far as it could be read.

    What --json writes, 'scanflow-serve plan --for FILE' reads on another machine.
    """
    import json

    from scanflow_serve.runtime.host.profile import profile_host
    from scanflow_serve.runtime.host.summary import summary

    host = profile_host(root)
    if as_json:
        click.echo(json.dumps(host.to_json(), indent=2))
        return
    rows = summary(host)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        click.echo(f"{name:<{width}}  {text}")
    for warning in host.warnings:
        click.echo(f"warning: {warning}", err=True)
