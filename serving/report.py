"""Plans for people: a table, and the one sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scanflow_serve.runtime.explain import sentence
from scanflow_serve.runtime.figures import FIGURES
from scanflow_serve.runtime.plan import Plan, Verdict

COLUMNS = ("accuracy", "latency_p95_ms", "throughput_rps", "memory_mb", "size_mb")
WIDEST_ID = 60  # columns; a combination of several variants is folded
LEAST_REASON = 24  # columns; below, a reason stands under its candidate
WIDTH_WITHOUT_TERMINAL = 160  # columns; logs and pipes don't wrap, and ids must stay whole


def console() -> Console:
    """Return the console of standard output."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def plan_table(verdicts: Sequence[Verdict], *, title: str, width: int) -> Table:
    """Return every candidate with its figures and, if it was not chosen, the one reason.

    Args:
        width: Columns of the console. Where ids, figures and reasons don't fit side by side, the
            reasons stand under the ids: rich would cut off what is too wide.
    """
    energy = any(v.measurement and v.measurement.energy_mj is not None for v in verdicts)
    keys = (*COLUMNS, *(("energy_mj",) if energy else ()))
    heads = [",\n".join(filter(None, (FIGURES[k].label, FIGURES[k].unit.strip()))) for k in keys]
    lines = [_line(verdict, keys) for verdict in verdicts]
    longest = min(max([len("candidate"), *(len(line.candidate) for line in lines)]), WIDEST_ID)
    fixed = [2, longest, *map(_widest, zip(heads, *(line.figures for line in lines), strict=True))]
    stacked = sum(fixed) + 3 * (len(fixed) + 1) + 1 + LEAST_REASON > width  # with frames
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD if stacked else HEAVY_HEAD)
    table.padding = (0, 0) if stacked else (0, 1)
    table.add_column("", no_wrap=True)
    table.add_column("candidate", overflow="fold", width=None if stacked else longest)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    if not stacked:
        table.add_column("why not", overflow="fold")
    for line in lines:
        below = f"\n  {line.reason}" if stacked and line.reason else ""
        row = [
            line.mark,
            line.candidate + below,
            *line.figures,
            *([] if stacked else [line.reason]),
        ]
        table.add_row(*map(Text, row), style=None if line.reason else "bold")
    return table


@dataclass(frozen=True, slots=True)
class _Line:
    mark: str
    candidate: str
    figures: list[str]
    reason: str


def _line(verdict: Verdict, keys: Sequence[str]) -> _Line:
    mark = "=>" if verdict.rejected is None else "*" if verdict.pareto else ""
    reason = verdict.rejected.reason if verdict.rejected else ""
    return _Line(mark, verdict.candidate.id, [_figure(verdict, key) for key in keys], reason)


def _widest(cells: Sequence[str]) -> int:
    return max(len(line) for cell in cells for line in cell.split("\n"))


def _figure(verdict: Verdict, key: str) -> str:
    figure = FIGURES[key]
    value = figure.of(verdict.measurement) if verdict.measurement is not None else None
    return "" if value is None else figure.show(value).removesuffix(figure.unit)


def print_verdicts(verdicts: Sequence[Verdict], title: str) -> None:
    """Write the table alone to standard output."""
    out = console()
    out.print(plan_table(verdicts, title=title, width=out.width))


def print_plan(plan: Plan) -> None:
    """Write the plan's table, the reason and the notes to standard output."""
    out = console()
    title = f"{plan.policy}: target {plan.target} ({plan.when or 'any host'}) runs {plan.run}"
    print_verdicts(plan.verdicts, title)
    out.print(Text("=> chosen   * on the frontier of accuracy, latency and memory"), style="dim")
    out.print(Text(sentence(plan)))
    for note in plan.notes:
        out.print(Text(f"note: {note}"))
