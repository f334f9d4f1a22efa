"""``artifacts publish`` and ``artifacts fetch``: converted models in an MLflow registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanflow_serve.serving.commands.options import Debuggable, json_option

if TYPE_CHECKING:
    from scanflow_serve.converters.registry import Check
    from scanflow_serve.runtime.artifacts import Artifact
    from scanflow_serve.runtime.host.model import HostProfile

EXAMPLE = "Example: scanflow-serve artifacts"
VARIABLE = "MLFLOW_TRACKING_URI"
uri_option = click.option(
    "--tracking-uri", metavar="URI", envvar=VARIABLE, show_envvar=True, help="The MLflow server."
)


@click.command(cls=Debuggable, epilog=f"{EXAMPLE} publish 8190ffd1 --to models:/digits --alias pi")
@click.argument("key")
@click.option("--to", "target", metavar="models:/NAME", required=True, help="The registered model.")
@click.option("--alias", metavar="ALIAS", help="Points to the new version from now on.")
@uri_option
@json_option
def publish(
    key: str, target: str, alias: str | None, tracking_uri: str | None, as_json: bool
) -> None:
    """Publish the artifact KEY to an MLflow registry, as a new version of a registered model.

    What has been published before stays the version that it is. Best under the name of the
    registered model that it was made from: there 'artifacts fetch' finds it by its source.
    """
    import json

    from scanflow_serve.converters import registry
    from scanflow_serve.policies.errors import UsageError
    from scanflow_serve.runtime.store import shared_store
    from scanflow_serve.serving.artifact_keys import whole_key

    uri = _server(tracking_uri)
    match = registry.TARGET.fullmatch(target)
    if match is None:
        raise UsageError(f"--to must read models:/NAME, got {target!r}.")
    store = shared_store()
    whole = whole_key(store, key)
    refused, artifact = store.refused(whole), store.find(whole)
    if artifact is None:
        reason = refused.refusal.reason if refused is not None else "it is corrupt"
        raise UsageError(f"KEY must be of an artifact that may be served, got {whole}: {reason}")
    done = registry.publish(artifact, store, tracking_uri=uri, name=match["name"], alias=alias)
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2))
    else:
        verb = "published as" if done.created else "had been published as"
        named = f", models:/{done.name}@{alias}" if alias else ""
        click.echo(f"{whole} {verb} {done.address}{named}")


@click.command(cls=Debuggable, epilog=f"{EXAMPLE} fetch models:/digits/3")
@click.argument("source", metavar="models:/NAME/VERSION")
@click.option(
    "--for",
    "host_file",
    metavar="HOST.json",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Fetch for the machine whose 'profile --json' this is.",
)
@uri_option
@json_option
def fetch(source: str, host_file: Path | None, tracking_uri: str | None, as_json: bool) -> None:
    """Fetch converted models from an MLflow registry: those made from a version, or that version.

    Takes models:/NAME@ALIAS, too. Each is held to its digests and, on every backend of this
    machine, to what it answered where it was published; one that differs is left out. Needs no
    converter, only the extra 'track'.
    """
    import json

    from scanflow_serve.converters import probe, registry
    from scanflow_serve.runtime.host.recorded import load_profile
    from scanflow_serve.runtime.store import shared_store

    uri = _server(tracking_uri)
    host: HostProfile | None = load_profile(host_file) if host_file is not None else None
    check: Check = probe.hold if host is None else _held_where_possible
    store = shared_store()
    artifacts = registry.fetch(source, host, tracking_uri=uri, store=store, check=check)
    if as_json:
        value = {"source": source, "artifacts": [artifact.to_json() for artifact in artifacts]}
        click.echo(json.dumps(value, indent=2))
        return
    for artifact in artifacts:
        size = f"{artifact.size_bytes / 2**20:.2f} MB"
        form = f"{artifact.model} {artifact.format} {artifact.precision}"
        click.echo(f"{artifact.id}  {size}  {form}")


def _server(uri: str | None) -> str:
    from scanflow_serve.policies.errors import UsageError

    if not uri:
        raise UsageError(
            f"The MLflow server must be named, got neither --tracking-uri nor {VARIABLE}. "
            "Give it: --tracking-uri http://HOST:5000"
        )
    return uri


def _held_where_possible(artifact: Artifact, folder: Path | None) -> None:
    """Hold an artifact for another machine to its probe, unless this one lacks the backends."""
    from scanflow_serve.converters import probe
    from scanflow_serve.policies.errors import MissingExtraError

    try:
        probe.hold(artifact, folder)
    except MissingExtraError as error:
        click.echo(f"{artifact.id[:12]}: held to its digests only: {error}", err=True)
