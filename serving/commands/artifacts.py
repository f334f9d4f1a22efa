"""``artifacts``: the converted models that are kept on this host."""

from __future__ import annotations

from typing import Any

import click

from scanflow_serve.serving.commands.options import Debuggable, json_option
from scanflow_serve.serving.commands.registry import fetch, publish

EXAMPLE = "Example: scanflow-serve artifacts"


@click.group(epilog=f"{EXAMPLE} list")
def artifacts() -> None:
    """List, show, verify, clean up, publish and fetch the converted models on this host.

    They are shared between policies and lie in the user's cache folder (or SCANFLOW_CACHE), each
    with a manifest.json beside it. Whatever is removed is made again when a policy needs it.
    """


artifacts.add_command(publish)
artifacts.add_command(fetch)


@artifacts.command("list", cls=Debuggable, epilog=f"{EXAMPLE} list --json")
@json_option
def list_(as_json: bool) -> None:
    """List every artifact, and every conversion whose outcome was refused."""
    from scanflow_serve.runtime.store import shared_store

    store = shared_store()
    entries, refusals = store.list(), store.refusals()
    if as_json:
        _write(
            {
                "folder": str(store.folder),
                "artifacts": [entry.to_json() for entry in entries],
                "refused": {key: refused.to_json() for key, refused in refusals.items()},
            }
        )
        return
    if not entries and not refusals:
        click.echo(f"{store.folder}: no converted models yet.")
        return
    from scanflow_serve.serving.artifact_report import MB, count, store_table
    from scanflow_serve.serving.report import console

    size = sum(entry.size_bytes for entry in entries) / MB
    title = f"{store.folder}: {count(len(entries))}, {size:.1f} MB"
    console().print(store_table(entries, refusals, title=title))


@artifacts.command(cls=Debuggable, epilog=f"{EXAMPLE} show 8190ffd1")
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show where the artifact KEY comes from, and how well it does.

    The first digits of a key are enough if no other key begins with them.
    """
    from scanflow_serve.runtime.store import shared_store
    from scanflow_serve.serving.artifact_keys import whole_key
    from scanflow_serve.serving.artifact_report import details

    store = shared_store()
    found = whole_key(store, key)
    refused = store.refused(found)
    document = refused.to_json() if refused is not None else store.manifest(found)
    if as_json:
        _write({"key": found, **document})
        return
    lines = [("key", found), *details(document)]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:<{width}}  {text}")


@artifacts.command(cls=Debuggable, epilog=f"{EXAMPLE} verify")
@json_option
def verify(as_json: bool) -> None:
    """Hold every artifact to the digests in its manifest; exit code 1 if one is corrupt.

    A corrupt one is moved to the quarantine, and made again when a policy needs it.
    """
    from scanflow_serve.runtime.store import shared_store
    from scanflow_serve.serving.progress import progress

    store = shared_store()
    with progress("Verifying artifacts") as shown:
        entries = store.verify(shown)
    corrupt = [entry for entry in entries if entry.fault is not None]
    if as_json:
        _write({"ok": not corrupt, "artifacts": [entry.to_json() for entry in entries]})
    else:
        from scanflow_serve.serving.artifact_report import count, store_table
        from scanflow_serve.serving.report import console

        title = f"{store.folder}: {count(len(entries))}, {len(corrupt)} corrupt"
        console().print(store_table(entries, {}, title=title, whole="intact"))
    if corrupt:
        raise click.exceptions.Exit(1)


@artifacts.command(cls=Debuggable, epilog=f"{EXAMPLE} gc --max-mb 500")
@click.option(
    "--max-mb",
    type=click.FloatRange(min=0),
    required=True,
    help="Remove the least recently used until at most this is left.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def gc(max_mb: float, dry_run: bool, as_json: bool) -> None:
    """Clean up: corrupt artifacts, leftovers, and the least recently used above a bound.

    What a running server has is kept, and so is the memory of what was refused.
    """
    from scanflow_serve.runtime.store import shared_store

    collected = shared_store().gc(max_mb, dry_run=dry_run)
    if as_json:
        _write({"dry_run": dry_run, **collected.to_json()})
        return
    from scanflow_serve.serving.artifact_report import MB, SHORT_KEY, count

    verb = "would remove" if dry_run else "removed"
    for entry in collected.removed:
        name = f"{entry.artifact.model} {entry.artifact.precision}" if entry.artifact else "corrupt"
        click.echo(f"{verb} {entry.key[:SHORT_KEY]}  {entry.size_bytes / MB:.2f} MB  {name}")
    for entry in collected.held:
        click.echo(f"kept {entry.key[:SHORT_KEY]}: a running process has it", err=True)
    click.echo(f"{verb} {count(len(collected.removed))}, {collected.kept_bytes / MB:.2f} MB stay")


def _write(value: dict[str, Any]) -> None:
    import json

    click.echo(json.dumps(value, indent=2))
