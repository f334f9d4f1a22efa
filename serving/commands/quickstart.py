"""``quickstart``: from nothing to a served policy."""

from __future__ import annotations

from pathlib import Path

import click

from scanflow_serve.serving.commands.options import command
from scanflow_serve.serving.commands.run import port_option


@command("quickstart my-digits")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("quickstart"))
@click.option("--no-serve", is_flag=True, help="Only write the folder.")
@port_option
def quickstart(folder: Path, no_serve: bool, port: int | None) -> None:
    """Write FOLDER (default: quickstart) with a policy, models, data and a client; serve it."""
    from scanflow_serve.serving.quickstart import POLICY, create

    create(folder)
    click.echo(f"Wrote {folder}: it is yours.")
    if no_serve:
        click.echo(f"Serve it: scanflow-serve run {folder / POLICY}")
        return
    from scanflow_serve.serving.run import serve

    serve(folder / POLICY, port=port, bind=None, state=None, recalibrate=False)
