"""Arrivals that were recorded: a CSV or JSONL file, a request a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.simulation.arrivals import EXAMPLES, MOST, Arrival

CURE = (
    "A line gives arrival_s (in s, from any origin) and, if it likes, rows, client, deadline_ms, "
    "priority."
)
MOST_FAULTS = 10


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class _Line:
    arrival_s: float
    rows: int = Field(default=1, ge=1, le=4096)
    client: str = ""
    deadline_ms: float | None = Field(default=None, gt=0)
    priority: int = 0


_LINE = TypeAdapter(_Line)


def read(path: Path, *, seconds: float | None = None) -> list[Arrival]:
    """Return the arrivals in the file at *path*, earliest first, from zero.

    Args:
        seconds: Leave out what comes later than this after the first.

    Raises:
        UsageError: It can't be read, or a line is malformed; names up to ten with their numbers.
    """
    faults: list[str] = []
    lines: list[_Line] = []
    for number, value in _values(path):
        try:
            if isinstance(value, str):
                value = json.loads(value)
            lines.append(_LINE.validate_python(value))
        except ValidationError as error:
            faults += [f"{path}:{number}: {_told(fault)}." for fault in error.errors()]
        except (ValueError, RecursionError) as error:
            faults.append(f"{path}:{number}: must be a JSON object, got {str(error)!r}.")
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise UsageError("\n".join([*faults[:MOST_FAULTS], CURE]))
    if not 0 < len(lines) <= MOST:
        raise UsageError(f"{path}: must hold 1 to {MOST:,} requests, got {len(lines)}. {CURE}")
    lines.sort(key=lambda line: line.arrival_s)
    first = lines[0].arrival_s
    found = [
        Arrival(line.arrival_s - first, line.rows, line.client, line.deadline_ms, line.priority)
        for line in lines
    ]
    return [each for each in found if seconds is None or each.at < seconds]


def _values(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield each request with its line number: a mapping, or the text of one in JSON."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl", ".ndjson"):
        raise UsageError(
            f"--trace: must be a .csv or .jsonl file, or a load such as {EXAMPLES['poisson']}, "
            f"got {str(path)!r}. Loads: {', '.join(EXAMPLES)}."
        )
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if kind != ".csv":
                yield from ((n, line) for n, line in enumerate(file, 1) if line.strip())
                return
            rows = csv.DictReader(file, restkey="beyond the last column", skipinitialspace=True)
            for row in rows:
                yield rows.line_num, {key: cell for key, cell in row.items() if cell}
    except OSError as error:
        raise UsageError(f"{path}: must be readable, got {error.strerror!r}. {CURE}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: must be text in UTF-8, got {str(error)!r}. {CURE}") from None


def _told(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    got = "nothing" if fault["type"] == "missing" else repr(fault["input"])[:80]
    return f"{where}: {fault['msg']}, got {got}" if where else f"{fault['msg']}, got {got}"
