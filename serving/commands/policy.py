"""``validate`` and ``schema``: policies without running them."""

from __future__ import annotations

from pathlib import Path

import click

from scanflow_serve.serving.commands.options import command, json_option, policy_argument


@command("validate digits.yaml")
@policy_argument
@json_option
def validate(policy: Path, as_json: bool) -> None:
    """Check POLICY and every file that it names.

    All faults are reported at once, one a line, each with its place and what to do; exit code 2.
    """
    import json

    from scanflow_serve.policies.errors import PolicyError
    from scanflow_serve.serving.validation import summary

    try:
        found = summary(policy)
    except PolicyError as error:
        if not as_json:
            raise
        faults = [{key: getattr(f, key) for key in f.__slots__} for f in error.faults]
        click.echo(json.dumps({"ok": False, "faults": faults}, indent=2))
        raise click.exceptions.Exit(2) from None
    if as_json:
        click.echo(json.dumps({"ok": True, "faults": [], **found}, indent=2))
        return
    click.echo(f"{policy}: OK")
    for model in found["models"]:
        ports = f"{model['inputs']} -> {model['outputs']}"
        ready = model["size_mb"] is not None
        click.echo(f"  model {model['name']}: {ports if ready else model['format']}")
    for name in found["workflows"]:
        click.echo(f"  workflow {name}")
    for note in found["notes"]:
        click.echo(f"  note: {note}")


@command("schema > policy.schema.json")
def schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    from scanflow_serve.policies.json_schema import schema_text

    click.echo(schema_text(), nl=False)
