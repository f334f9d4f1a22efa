"""What a run of `checks` measured, as tables in Markdown, and the aims beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from check_costs import Inline, Kept
from check_servers import CONNECTIONS, Load, Lost, Memory, median_lost
from page import Aim, aim_lines

MIB = 1024 * 1024
MOST_LOST = 100  # rows: a checkpoint comes every hundred requests


@dataclass(frozen=True, slots=True)
class Result:
    """All that a run measured.

    Attributes:
        rounds: Pairs of bursts at each number of connections.
        imported: Top-level modules that the server imported.
        forbidden: Of these, what it must not.
    """

    inline: Inline
    kept: Kept
    loads: Sequence[Load]
    memory: Sequence[Memory]
    lost: Sequence[Lost]
    rounds: int
    imported: int
    forbidden: Sequence[str]


def aims(result: Result) -> list[Aim]:
    """Return the project's aims with what was measured; ratios of the first model only."""
    inline, kept = result.inline, result.kept
    first = result.loads[0].model
    found = [
        Aim("tap, added to a request in process", inline.tap_us, 10, False, "us"),
        Aim("integrity before inference, 64 values, p50", inline.clean.p50_us, 50, False, "us"),
        Aim("the same, p99", inline.clean.p99_us, 150, False, "us"),
    ]
    for connections in CONNECTIONS:
        text = f"requests/s lost, {first} model, {_clients(connections)}"
        lost = 100 * median_lost(result.loads, first, connections)
        found.append(Aim(text, lost, 5, False, "%"))
    found += [
        Aim("state of all checks of a model", kept.late_bytes / MIB, 2, False, "MiB"),
        Aim(f"its growth over {kept.rows:,} rows", 100 * kept.growth, 1, False, "%"),
    ]
    found += [
        Aim(f"added to the server, {each.model} model", each.on_mb - each.off_mb, 30, False, "MiB")
        for each in result.memory
    ]
    libraries = "of torch, scipy, scikit-learn, river, pandas imported by the server"
    found.append(Aim(libraries, len(result.forbidden), 0, False, "modules"))
    calm = result.lost[0]
    text = f"rows lost by kill -9, {calm.load}"
    return [*found, Aim(text, calm.seen - calm.kept, MOST_LOST, False, "rows")]


def summary(result: Result) -> Iterator[str]:
    """Yield the aims."""
    yield from aim_lines(aims(result))


def table(result: Result) -> Iterator[str]:
    """Yield all figures."""
    yield from _calls(result.inline)
    yield ""
    yield from _servers(result)
    yield ""
    yield from aim_lines(aims(result))
    yield ""
    yield from _notes(result)


def _calls(inline: Inline) -> Iterator[str]:
    yield from ("| in process, a request of one row | p50 | p99 |", "|---|---|---|")
    for name, spread in (
        ("tap: the hand-over", inline.put),
        ("integrity: clean", inline.clean),
        ("integrity: a value out of range", inline.flagged),
    ):
        yield f"| {name} | {spread.p50_us:.1f} us | {spread.p99_us:.1f} us |"


def _servers(result: Result) -> Iterator[str]:
    yield "| model | connections | requests/s, off | on | lost, median (range) | CPU a request |"
    yield "|---|---|---|---|---|---|"
    for model in dict.fromkeys(each.model for each in result.loads):
        for connections in CONNECTIONS:
            yield _line(result.loads, model, connections)


def _line(loads: Sequence[Load], model: str, connections: int) -> str:
    mine = [each for each in loads if (each.model, each.connections) == (model, connections)]
    middle = sorted(mine, key=lambda each: each.lost)[len(mine) // 2]
    low, high = min(each.lost for each in mine), max(each.lost for each in mine)
    lost = f"{median_lost(loads, model, connections):.1%} ({low:.1%} to {high:.1%})"
    cpu = f"{middle.off_cpu_us:.0f} to {middle.on_cpu_us:.0f} us"
    return f"| {model} | {connections} | {middle.off:,.0f} | {middle.on:,.0f} | {lost} | {cpu} |"


def _notes(result: Result) -> Iterator[str]:
    kept = result.kept
    yield f"- Checks take {kept.row_us:.1f} us of processor time a row where many rows wait."
    yield (
        f"- A checkpoint takes {kept.checkpoint_ms:.1f} ms, off the request path; its arrays are"
        f" {kept.stored_bytes / 1024:,.0f} KiB."
    )
    for each in result.lost:
        yield (
            f"- kill -9 under {each.load}: of {each.seen:,} rows seen, the restarted server knows"
            f" {each.kept:,}."
        )
    names = ", ".join(result.forbidden) or "none of them"
    yield f"- The server with checks imports {result.imported} top-level modules: {names}."


def _clients(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"
