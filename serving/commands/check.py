"""``check``: the policy's checks over a file of rows, as the server runs them over its traffic."""

from __future__ import annotations

from pathlib import Path

import click

from scanflow_serve.serving.commands.options import command, json_option, policy_argument


@command("check digits.yaml --data yesterday.npz")
@policy_argument
@click.option(
    "--data",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Rows to look at, in order: .npz or .csv.",
)
@json_option
def check(policy: Path, data: Path, as_json: bool) -> None:
    """Run the policy's checks over the rows of a file.

    The variant that this host would serve answers each row. Exit 1 where a check is in alarm.
    """
    import json

    from scanflow_serve.policies.loader import load_policy
    from scanflow_serve.serving import check_report, offline_checks

    found = offline_checks.over_file(load_policy(policy), data)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        check_report.print_checks(found)
    if found.state == "alarm":
        raise click.exceptions.Exit(1)
