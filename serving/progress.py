"""Shows how far a long piece of work is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int, str], None]  # done, total, what

LINE_EVERY_S = 5.0


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Give a function of (done, total, what) that shows it on stderr."""
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, what="")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, what=what)


class _Lines:
    """Writes the first report and the last, and in between one every few seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.last_s = float("-inf")

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if done < total and now - self.last_s < LINE_EVERY_S:
            return
        self.last_s = now
        print(f"{self.title}: {done}/{total} {what}", file=sys.stderr, flush=True)
