"""The artifact store for people: what it holds, and what is known of one artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from scanflow_serve.runtime.artifacts import Manifest
from scanflow_serve.runtime.inventory import Entry
from scanflow_serve.runtime.stored import Refused

MB = 2**20
SHORT_KEY = 12  # hex digits; `artifacts show` takes any beginning that is unique


def store_table(
    entries: Sequence[Entry], refusals: Mapping[str, Refused], *, title: str, whole: str = "ok"
) -> Table:
    """Return every artifact with its size and verdict, and every refusal with its reason.

    Args:
        whole: The verdict on an artifact that has no fault.
    """
    table = Table(title=title, title_justify="left")
    for name in ("key", "model", "format", "precision"):
        table.add_column(name, no_wrap=True)
    table.add_column("MB", justify="right")
    table.add_column("last used", no_wrap=True)
    table.add_column("verdict", overflow="fold", min_width=24)
    table.add_column("source", overflow="fold")
    for entry in entries:
        table.add_row(*map(Text, _entry_row(entry, whole)))
    for key, refused in refusals.items():
        form = (refused.model, refused.format, refused.precision)
        verdict = f"refused: {refused.refusal.reason}"
        row = (key[:SHORT_KEY], *form, "", "", verdict, refused.manifest.source)
        table.add_row(*map(Text, row), style="dim")
    return table


def _entry_row(entry: Entry, whole: str) -> tuple[str, ...]:
    size = f"{entry.size_bytes / MB:.2f}"
    used = f"{entry.used_at.astimezone():%Y-%m-%d %H:%M}"
    artifact = entry.artifact
    if artifact is None:
        return (entry.key[:SHORT_KEY], "", "", "", size, used, f"corrupt: {entry.fault}", "")
    form = (artifact.model, artifact.format, artifact.precision)
    return (entry.key[:SHORT_KEY], *form, size, used, whole, artifact.manifest.source)


def details(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what an artifact's manifest says, or a refusal, as (name, text) lines."""
    manifest = Manifest.from_json(document["manifest"])
    yield "model", document["model"]
    yield "format", f"{document['format']} {document['precision']}"
    if "refusal" in document:
        yield "refused", document["refusal"]["reason"]
    if "made_at" in document:
        yield "made", document["made_at"]
    yield "source", f"{manifest.source} (SHA-256 {manifest.source_digest})"
    yield "route", " -> ".join(manifest.route) or "as it stands"
    yield "tools", _pairs(manifest.tools)
    yield "options", _pairs(manifest.options)
    yield "executed in", _pairs(manifest.effective)
    stored = (f"{kind} {share:.1%}" for kind, share in manifest.weights.items())
    yield "weights", ", ".join(stored) or "not known"
    if manifest.labels is not None:
        yield "classes", ", ".join(manifest.labels)
    yield "seconds", _pairs(manifest.durations_s)
    for name, figures in manifest.verification.items():
        yield (
            f"verified {name}",
            _pairs(figures) if isinstance(figures, Mapping) else _value(figures),
        )
    for side in ("inputs", "outputs"):
        for spec in document.get("signature", {}).get(side, ()):
            yield side.removesuffix("s"), f"{spec['name']} {spec['dtype']}{spec['shape']}"
    for file in document.get("files", ()):
        yield "file", f"{file['name']} ({file['bytes'] / MB:.2f} MB, SHA-256 {file['sha256']})"


def count(artifacts: int) -> str:
    """Return the number in words.

    >>> count(1), count(2)
    ('1 artifact', '2 artifacts')
    """
    return f"{artifacts} artifact{'' if artifacts == 1 else 's'}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items()) or "none"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_pairs(value)})"
    return "not a number" if value is None else f"{value}"
