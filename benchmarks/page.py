"""What the pages of all benchmarks share: the machine, aims and bounds, the place in a file."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound that the project set itself, and what was measured."""

    text: str
    value: float
    bound: float
    at_least: bool
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Return whether the bound holds."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def aim_lines(aims: Iterable[Aim]) -> Iterator[str]:
    """Return the aims as a table in Markdown, line by line."""
    yield from ("| aim | measured | |", "|---|---|---|")
    for aim in aims:
        bound = f"{'>=' if aim.at_least else '<='} {aim.bound:g} {aim.unit}"
        met = "met" if aim.met else "**not met**"
        yield f"| {aim.text}: {bound} | {aim.value:.2f} {aim.unit} | {met} |"


def machine() -> str:
    """Return processor, cores and Python, without the machine's name."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        cpu = found[1]
    return f"{psutil.cpu_count()} x {cpu}, Python {platform.python_version()}"


def update(path: Path, place: str, text: str) -> None:
    """Replace what stands between the two comments ``<!-- PLACE -->`` of *path*."""
    start, end = f"<!-- {place} -->", f"<!-- /{place} -->"
    pattern = re.compile(rf"({re.escape(start)}\n).*?({re.escape(end)})", re.DOTALL)
    page, count = pattern.subn(lambda m: f"{m[1]}{text}\n{m[2]}", path.read_text())
    if count != 1:
        raise SystemExit(f"{path}: must hold '{start}' and '{end}' once.")
    path.write_text(page)
