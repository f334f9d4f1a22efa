"""Plans for people: a table, and the one sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scanflow_serve.runtime.explain import sentence
from scanflow_serve.runtime.figures import FIGURES
from scanflow_serve.runtime.plan import Plan, Verdict

COLUMNS = ("accuracy", "latency_p95_ms", "throughput_rps", "memory_mb", "size_mb")
WIDEST_ID = 60  # columns; a combination of several variants is folded
WIDTH_WITHOUT_TERMINAL = 160  # columns; logs and pipes don't wrap, and ids must stay whole


def console() -> Console:
    """Return the console of standard output."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def plan_table(verdicts: Sequence[Verdict], *, title: str) -> Table:
    """Return every candidate with its figures and, if it was not chosen, the one reason."""
    energy = any(v.measurement and v.measurement.energy_mj is not None for v in verdicts)
    columns = (*COLUMNS, *(("energy_mj",) if energy else ()))
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    longest = max((len(verdict.candidate.id) for verdict in verdicts), default=0)
    table.add_column("candidate", overflow="fold", min_width=min(longest, WIDEST_ID))
    for key in columns:
        unit = FIGURES[key].unit
        table.add_column(FIGURES[key].label + (unit and f",{unit}"), justify="right")
    table.add_column("why not", overflow="fold", min_width=24)
    for verdict in verdicts:
        table.add_row(*_row(verdict, columns), style="bold" if verdict.rejected is None else None)
    return table


def _row(verdict: Verdict, columns: Sequence[str]) -> list[Text]:
    mark = "=>" if verdict.rejected is None else "*" if verdict.pareto else ""
    figures = [_figure(verdict, key) for key in columns]
    reason = verdict.rejected.reason if verdict.rejected else ""
    return [Text(cell) for cell in (mark, verdict.candidate.id, *figures, reason)]


def _figure(verdict: Verdict, key: str) -> str:
    figure = FIGURES[key]
    value = figure.of(verdict.measurement) if verdict.measurement is not None else None
    return "" if value is None else figure.show(value).removesuffix(figure.unit)


def print_plan(plan: Plan) -> None:
    """Write the plan's table, the reason and the notes to standard output."""
    out = console()
    title = f"{plan.policy}: target {plan.target} ({plan.when or 'any host'}) runs {plan.run}"
    out.print(plan_table(plan.verdicts, title=title))
    out.print(Text("=> chosen   * on the frontier of accuracy, latency and memory"), style="dim")
    out.print(Text(sentence(plan)))
    for note in plan.notes:
        out.print(Text(f"note: {note}"))
