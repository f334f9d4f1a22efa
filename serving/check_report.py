"""What the checks say of a file, as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from scanflow_serve.serving.offline_checks import Outcome
from scanflow_serve.serving.report import console

STYLES = {"alarm": "bold red", "warn": "yellow", "ok": "green"}


def print_checks(outcome: Outcome) -> None:
    """Print each check's state, score, p-value, since which row, and what moved."""
    table = Table(title=f"{outcome.rows} rows: {outcome.state}", title_justify="left")
    for head in ("check", "state", "score", "threshold", "p", "since row", "what moved"):
        table.add_column(head, overflow="fold")
    for check in outcome.checks:
        cells = _cells(check)
        table.add_row(*map(Text, cells), style=STYLES.get(check["state"]))
    console().print(table)
    told = outcome.separation
    if told is not None:
        by = ", ".join(name for name, _ in told.features)
        console().print(
            f"domain classifier: tells {told.rows} rows from {told.reference_rows} of the reference"
            f" with AUC {told.auc:.3f} (p {told.p_val:.2g}){f', by {by}' if by else ''}",
            markup=False,
        )


def _cells(check: dict[str, Any]) -> list[str]:
    evidence = check["evidence"] or {}
    moved = [str(each["name"]) for each in evidence.get("features", ())[:3]]
    if evidence.get("detector"):
        moved = [f"{evidence['detector']}:", ", ".join(moved)]
    return [
        check["name"],
        check["state"],
        _figure(check["score"]),
        _figure(check["threshold"]),
        _figure(check["p_val"]),
        str(evidence.get("since", "")),
        " ".join(moved) if evidence else check["why"],
    ]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:.4g}"
