"""``plan`` and ``calibrate``: what would run, and the figures that decide."""

from __future__ import annotations

from pathlib import Path

import click

from scanflow_serve.serving.commands.options import (
    command,
    json_option,
    policy_argument,
    recalibrate_option,
)


@command("plan digits.yaml")
@policy_argument
@click.option(
    "--for",
    "host_file",
    metavar="HOST.json",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Plan for the machine whose 'profile --json' this is; needs --measurements.",
)
@click.option(
    "--measurements",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Figures that 'calibrate --json' wrote there, instead of measuring here.",
)
@json_option
def plan(
    policy: Path,
    host_file: Path | None,
    measurements: Path | None,
    as_json: bool,
) -> None:
    """Say what would run on this host, or on another, and why.

    Lists every candidate with its figures and, if it was rejected, the one reason.
    """
    import json

    from scanflow_serve.policies.errors import InfeasibleError
    from scanflow_serve.serving import planning, report

    try:
        outcome = planning.plan(policy, host_file, measurements)
    except InfeasibleError as error:
        if error.verdicts and not as_json:
            report.print_verdicts(error.verdicts, str(policy))
        raise
    if as_json:
        click.echo(json.dumps(outcome.to_json(), indent=2))
    else:
        report.print_plan(outcome)


@command("calibrate digits.yaml --json > here.json")
@policy_argument
@recalibrate_option
@json_option
def calibrate(policy: Path, recalibrate: bool, as_json: bool) -> None:
    """Measure every variant of POLICY on this host.

    What --json writes, 'scanflow-serve plan --measurements FILE' reads.
    """
    import json

    from scanflow_serve.policies.errors import InfeasibleError
    from scanflow_serve.policies.loader import load_policy
    from scanflow_serve.runtime.host.profile import profile_host
    from scanflow_serve.runtime.record import Record
    from scanflow_serve.serving import planning, report

    policy_file, host = load_policy(policy), profile_host()
    name = policy_file.policy.name
    try:
        prepared = planning.measured(policy_file, host, recalibrate=recalibrate)
    except InfeasibleError as error:
        if as_json and error.measurements is not None:  # figures are figures
            record = Record(name, host, error.measurements)
            click.echo(json.dumps(record.to_json(), indent=2))
        elif error.verdicts and not as_json:
            report.print_verdicts(error.verdicts, str(policy))
        raise
    if as_json:
        record = Record(name, host, prepared.measurements)
        click.echo(json.dumps(record.to_json(), indent=2))
    else:
        report.print_plan(prepared.plan)
