"""``fit-checks``: trains the detectors that a policy's checks need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanflow_serve.serving.commands.options import command, json_option, policy_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from scanflow_serve.serving.check_detectors import Fitted

COLUMNS = ("rows", "epochs", "error", "normal", "promised", "measured", "size, kB", "row, µs")


@command("fit-checks digits.yaml")
@policy_argument
@json_option
def fit_checks(policy: Path, as_json: bool) -> None:
    """Train the detectors that the checks of POLICY need, and say what each promises.

    Each is held to rows that it has not seen; one that does not flag the share that it promises is
    refused. A second call finds what the first one made.
    """
    import json

    from scanflow_serve.policies.loader import load_policy
    from scanflow_serve.serving import check_detectors, report
    from scanflow_serve.serving.progress import progress

    policy_file = load_policy(policy)
    with progress("training") as shown:
        fitted = check_detectors.fit(policy_file, shown)
    if as_json:
        value = {"policy": policy_file.policy.name, "detectors": [f.to_json() for f in fitted]}
        click.echo(json.dumps(value, indent=2))
    elif not fitted:
        click.echo(f"{policy}: no check needs training.")
    else:
        report.console().print(detector_table(fitted, title=str(policy)))
    if any(each.refusal for each in fitted):
        raise click.exceptions.Exit(1)


def detector_table(fitted: Sequence[Fitted], *, title: str) -> Table:
    """Return a row for each detector: what it learned, what it flags, what it costs."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for name in (
        "rows",
        "epochs",
        "error",
        "normal",
        "promised",
        "measured",
        "size, kB",
        "row, µs",
    ):
        table.add_column(name, justify="right")
    table.add_column("verdict", overflow="fold", min_width=8)
    for each in fitted:
        cells = (
            each.check,
            each.method,
            str(each.rows),
            _number(each, "{epochs}", "epochs"),
            _number(each, "{error_held_out:.3g}", "error_held_out"),
            _number(each, "{low:.3g} to {high:.3g}", "low"),
            _number(each, "{rate:.2%} ({rate_low:.2%} to {rate_high:.2%})", "rate"),
            _number(each, "{rate_verified:.2%} of {verified_scores}", "rate_verified"),
            f"{each.size_bytes / 1024:.0f}" if each.size_bytes else "",
            _number(each, "{row_us:.0f}", "row_us"),
            f"refused: {each.refusal}" if each.refusal else "ok",
        )
        table.add_row(*map(Text, cells), style="dim" if each.refusal else None)
    return table


def _number(fitted: Fitted, form: str, needed: str) -> str:
    return form.format(**fitted.figures) if needed in fitted.figures else ""
