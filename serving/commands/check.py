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
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Rows to look at, in order: .npz or .csv.",
)
@click.option(
    "--merge",
    metavar="STATE",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="State folder of a replica that serves this policy; repeat it for each.",
)
@click.option(
    "--classifier",
    is_flag=True,
    help="Ask a domain classifier too: can the file be told from the reference, by what? (convert)",
)
@json_option
def check(
    policy: Path, data: Path | None, merge: tuple[Path, ...], classifier: bool, as_json: bool
) -> None:
    """Run the policy's checks over the rows of a file, or tell where its replicas stand together.

    The variant that this host would serve answers each row. Exit 1 where a check is in alarm.
    """
    import json

    from scanflow_serve.policies.loader import load_policy
    from scanflow_serve.serving import check_report, offline_checks

    if (data is None) == (not merge):
        raise click.UsageError("Give --data FILE, or --merge STATE once for each replica.")
    if classifier and data is None:
        raise click.UsageError("Give --data FILE with --classifier: states hold no rows.")
    loaded = load_policy(policy)
    if data is None:
        found = offline_checks.over_states(loaded, merge)
    else:
        found = offline_checks.over_file(loaded, data, classifier=classifier)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        check_report.print_checks(found)
    if found.state == "alarm":
        raise click.exceptions.Exit(1)
