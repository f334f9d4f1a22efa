"""What a run of `overhead` measured, as tables in Markdown, and the aims beside it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from contenders import Contender
from page import Aim, aim_lines

CONNECTIONS = (1, 16)


@dataclass(frozen=True, slots=True)
class Burst:
    """One contender's figures at one number of connections in one round."""

    contender: str
    connections: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # processor time of all its processes, a request


def medians(bursts: Iterable[Burst], key: str, connections: int) -> Burst:
    """Return the medians over the rounds of one contender."""
    mine = [b for b in bursts if b.contender == key and b.connections == connections]
    figures = {
        name: statistics.median(getattr(b, name) for b in mine)
        for name in ("rps", "p50_ms", "p99_ms", "cpu_us")
    }
    return Burst(contender=key, connections=connections, **figures)


def aims(result: dict[str, Any], bursts: list[Burst]) -> list[Aim]:
    """Return the project's aims with what was measured, as far as it was."""
    present = {b.contender for b in bursts}
    found: list[Aim] = []
    if "scanflow-bentoml" in present:
        one, many = (medians(bursts, "scanflow-bentoml", n) for n in CONNECTIONS)
        for key, name, factor in (
            ("bentoml", "BentoML", 10),
            ("mlserver", "MLServer", 4),
            ("litserve", "LitServe", 8),
        ):
            if key in present:
                theirs = medians(bursts, key, 16)
                text = f"requests/s at 16 connections over {name}'s"
                found.append(Aim(text, many.rps / theirs.rps, factor, at_least=True))
        if "scanflow-uvicorn" in present:
            app_one, app_many = (medians(bursts, "scanflow-uvicorn", n) for n in CONNECTIONS)
            same = "over the same application's on bare uvicorn"
            ratios = [
                (f"p50 at 1 connection {same}", one.p50_ms / app_one.p50_ms, 1.3, False),
                (f"p99 at 1 connection {same}", one.p99_ms / app_one.p99_ms, 2.0, False),
                (f"requests/s at 16 connections {same}", many.rps / app_many.rps, 0.5, True),
            ]
            found += [Aim(text, value, bound, at_least=a) for text, value, bound, a in ratios]
    image, start = result.get("image"), result.get("start", {}).get("bentoml")
    if image:
        text = "added to the raw call by a 224x224x3 float32 binary request"
        found.append(Aim(text, image["added_ms"], 0.5, at_least=False, unit="ms"))
    if start:
        text = "from start to ready, quickstart, warm cache"
        found.append(Aim(text, start["ready_s"], 1.5, at_least=False, unit="s"))
        text = "resident memory, quickstart, all processes"
        found.append(Aim(text, start["memory_mb"], 150, at_least=False, unit="MiB"))
    return found


def table(result: dict[str, Any], chosen: Sequence[Contender], bursts: list[Burst]) -> str:
    """Return the tables in Markdown."""
    lines = [
        "| server | p50, 1 conn. | p99, 1 conn. | req/s, 1 conn. | p50, 16 conn. |"
        " p99, 16 conn. | req/s, 16 conn. | CPU a request | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for contender in chosen:
        one, many = (medians(bursts, contender.key, n) for n in CONNECTIONS)
        lines.append(
            f"| {contender.name} | {one.p50_ms:.3f} ms | {one.p99_ms:.2f} ms | {one.rps:,.0f} |"
            f" {many.p50_ms:.2f} ms | {many.p99_ms:.1f} ms | {many.rps:,.0f} |"
            f" {many.cpu_us:.0f} us | {result['memory_mb'][contender.key]:.0f} MiB |"
        )
    lines += ["", *aim_lines(aims(result, bursts)), "", sentence(result)]
    return "\n".join(lines)


def sentence(result: dict[str, Any]) -> str:
    """Return what else was measured, and where."""
    parts = [f"{result['machine']}; load by {result['generator']}; {result['date']}."]
    if "installed_mb" in result:
        parts.append(f"The base with all its dependencies takes {result['installed_mb']:.0f} MiB.")
    if light := result.get("start", {}).get("uvicorn"):
        parts.append(
            f"With `serve: {{server: uvicorn}}` the quickstart is ready after"
            f" {light['ready_s']:.2f} s and takes {light['memory_mb']:.0f} MiB."
        )
    return " ".join(parts)
