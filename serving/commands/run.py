"""``run``: prepare a policy on this host and serve it."""

from __future__ import annotations

from pathlib import Path

import click

from scanflow_serve.serving.commands.options import (
    command,
    policy_argument,
    recalibrate_option,
    state_option,
)

port_option = click.option(
    "--port", type=click.IntRange(0, 65535), help="Default: the policy's; 0 picks a free one."
)


@command("run digits.yaml --port 3000")
@policy_argument
@port_option
@click.option("--bind", metavar="ADDRESS", help="Default: the policy's serve.host, 127.0.0.1.")
@state_option
@recalibrate_option
def run(
    policy: Path, port: int | None, bind: str | None, state: str | None, recalibrate: bool
) -> None:
    """Prepare POLICY on this host, say what runs and why, and serve it.

    The first start measures every candidate; later ones read what is known of this host. SIGTERM
    and Ctrl+C let requests in flight finish. The state folder holds server.json with pid and URL.
    """
    from scanflow_serve.serving.run import serve

    serve(policy, port=port, bind=bind, state=state, recalibrate=recalibrate)
