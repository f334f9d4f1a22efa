"""Converted models in an MLflow registry: published as new versions, fetched where they can run.

A version that was published here lies in a run's artifacts as::

    model/MLmodel           for MLflow: flavour and signature
    model/artifact/         the folder of the artifact store: files and manifest.json
    model/probe/            rows, and what the model answered where it was published

with tags ``scanflow.*`` that say what it is and which version it was made from. It stands under
the same registered model as its source, so that who may write the one may write the other.
Digests show damage, not forgery: a registry is trusted as far as its access rights go.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from scanflow_serve.converters import mlmodel, probe
from scanflow_serve.converters.origins.in_child import call_worker
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError, ScanflowError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry as backends_table
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.wheels import without_wheels
from scanflow_serve.runtime.store import ArtifactStore

log = logging.getLogger(__name__)
WORKER = "scanflow_serve.converters.registry_worker"
TIMEOUT_S = 1800.0  # a large model over a slow line
VERSION = re.compile(r"models:/(?P<name>[^/@:]+)/(?P<version>\d+)")
SOURCE = re.compile(r"models:/[^/@:]+(?:/(?:\d+|latest)|@[\w.-]+)")
TARGET = re.compile(r"models:/(?P<name>[^/@:]+)")

# Raises if the artifact, which answered in the probe's folder as recorded, may not be served.
Check: TypeAlias = Callable[[Artifact, Path | None], None]


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version of a registered model that holds an artifact.

    Attributes:
        created: False if the artifact had been published before.
    """

    name: str
    version: str
    run_id: str
    key: str
    created: bool

    @property
    def address(self) -> str:
        """Return what `fetch` takes."""
        return f"models:/{self.name}/{self.version}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "address": self.address}


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that holds a converted model, as its tags describe it."""

    version: str
    run_id: str
    key: str
    model: str
    format: str
    precision: str

    def __str__(self) -> str:
        """Return ``4 (openvino int8)``."""
        return f"{self.version} ({self.format} {self.precision})"


def publish(
    artifact: Artifact,
    store: ArtifactStore,
    *,
    tracking_uri: str,
    name: str,
    alias: str | None = None,
) -> PublishedVersion:
    """Return the version of registered model *name* that holds *artifact*, made unless it exists.

    Args:
        name: Without ``models:/``; made if there is none.
        alias: Points to that version from now on.

    Raises:
        ArtifactError: The artifact is not in *store*, answers wrongly here, or the server refuses
            or does not answer. A version is made last, so that there is none of half an artifact.
        MissingExtraError: mlflow, or a backend that runs the artifact, is not installed.
    """
    where = f"Artifact {artifact.id[:12]}"
    _require_mlflow(where)
    if store.find(artifact.id) is None:
        raise ArtifactError(
            f"{where}: must be in the store {store.folder} to be published, got none. "
            "See: scanflow-serve artifacts list"
        )
    with store.hold(artifact.id) as manifest, tempfile.TemporaryDirectory() as work:
        folder, model = Path(manifest.name).parent, Path(work, "model")
        probe.record(artifact, model / "probe")
        mlmodel.write(model, artifact, artifact.path.relative_to(folder))
        job = {
            "action": "publish",
            "uri": tracking_uri,
            "where": where,
            "address": f"models:/{name}",
            "folder": work,
            "model": str(model),
            "artifact": str(folder),
            "name": name,
            "alias": alias,
            "tags": tags(artifact),
            "metrics": mlmodel.metrics(artifact),
        }
        done = call_worker(WORKER, job, where, Path(work), TIMEOUT_S)
    return PublishedVersion(name, done["version"], done["run_id"], artifact.id, done["created"])


def fetch(
    source: str,
    host: HostProfile | None = None,
    *,
    tracking_uri: str,
    store: ArtifactStore,
    check: Check = probe.hold,
    given: str = "",
) -> list[Artifact]:
    """Return the converted models of *source* that *host* can load, all of them in *store*.

    One that fails its check is left out with a warning. Where the server does not answer, what
    was made from that very version and is in the store already is returned, with a warning.

    Args:
        source: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS`` or ``models:/NAME/latest`` (the
            last one that is no converted model): a converted model, or what some were made from.
        host: Another host than this one; it may have every backend that can be installed there.
        check: Called once for each that is new in *store*, after its digests were compared.
        given: What `convert` is to be told where there is nothing to fetch; default: the version.

    Raises:
        ArtifactError: There is none, or the server refuses or does not answer; the text says what
            to run where.
        MissingExtraError: mlflow is not installed.
    """
    if not SOURCE.fullmatch(source):
        raise ArtifactError(
            f"A source in a registry must read models:/NAME/VERSION or models:/NAME@ALIAS, got "
            f"{source!r}."
        )
    formats = _formats(host)
    try:
        _require_mlflow(source)
        address, offers = _offers(source, tracking_uri)
    except ScanflowError as error:
        kept = _kept(store, source, formats)
        if not kept:
            raise
        log.warning("%s What was made from it before is used.", error)
        return kept
    able = [offer for offer in offers if offer.format in formats]
    if not able:
        form = f"format {' or '.join(sorted(formats)) or 'none'}"
        got = ", ".join(map(str, offers))
        raise ArtifactError(remedy(address, tracking_uri, form, got, given))
    found = {offer.key: store.find(offer.key) for offer in able}
    missing = [offer for offer in able if found[offer.key] is None]
    faults: list[str] = []
    if missing:
        made, faults = _fetch(address, missing, tracking_uri, store, check)
        found |= made
    artifacts = [artifact for artifact in found.values() if artifact is not None]
    for fault in faults if artifacts else ():
        log.warning("%s Left out.", fault)
    if not artifacts:
        raise ArtifactError("\n".join(faults))
    return artifacts


def tags(artifact: Artifact) -> dict[str, str]:
    """Return the tags of the version that holds *artifact*."""
    manifest = artifact.manifest
    lineage = manifest.lineage or (manifest.source if VERSION.fullmatch(manifest.source) else "")
    found = {
        "key": artifact.id,
        "model": artifact.model,
        "format": artifact.format,
        "precision": artifact.precision,
        "size_bytes": str(artifact.size_bytes),
        "source": manifest.source,
        "source_digest": manifest.source_digest,
        "source_version": lineage,
        "route": " ".join(manifest.route),
        "signature": mlmodel.tag_text(artifact.signature.to_json()),
        "verification": mlmodel.tag_text(manifest.verification),
    }
    return {f"scanflow.{name}": text for name, text in found.items() if text}


def _require_mlflow(what: str) -> None:
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError(f"mlflow, which {what} needs,", "track")


def _formats(host: HostProfile | None) -> frozenset[str]:
    """Return the formats of artifacts that *host* can load, or this one with what is installed."""
    table = backends_table.BACKENDS
    if host is None:
        names = {name for name in table if backends_table.installed(name)}
    else:
        names = table.keys() - without_wheels(host.arch, host.libc)
    return frozenset().union(*(table[name].formats for name in names))


def _offers(source: str, uri: str) -> tuple[str, list[Offer]]:
    """Return the version that *source* stands for, and the converted models of it."""
    with tempfile.TemporaryDirectory() as work:
        job = {"action": "find", "uri": uri, "where": source, "address": source, "folder": work}
        found = call_worker(WORKER, job, source, Path(work), TIMEOUT_S)
    by_key = {value["key"]: Offer(**value) for value in found["offers"]}  # the last of several
    return str(found["address"]), list(by_key.values())


def _kept(store: ArtifactStore, address: str, formats: Collection[str]) -> list[Artifact]:
    keys = [
        entry.key
        for entry in store.list()
        if entry.artifact is not None
        and address in (entry.artifact.manifest.lineage, entry.artifact.manifest.source)
        and entry.artifact.format in formats
    ]
    return [artifact for key in keys if (artifact := store.find(key)) is not None]


def _fetch(
    address: str, offers: Sequence[Offer], uri: str, store: ArtifactStore, check: Check
) -> tuple[dict[str, Artifact | None], list[str]]:
    """Return what was downloaded and may be served, by key, and why the rest may not."""
    made: dict[str, Artifact | None] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        job = {
            "action": "download",
            "uri": uri,
            "where": address,
            "address": address,
            "folder": work,
            "runs": {offer.key: offer.run_id for offer in offers},
        }
        failed = call_worker(WORKER, job, address, Path(work), TIMEOUT_S)["failed"]
        for offer in offers:
            if offer.key in failed:
                faults.append(failed[offer.key])
                continue
            try:
                made[offer.key] = _adopt(offer, Path(work, offer.key), store, check)
            except (ArtifactError, MissingExtraError) as error:
                faults.append(f"{address}: converted model {offer} may not be served: {error}")
    return made, faults


def _adopt(offer: Offer, folder: Path, store: ArtifactStore, check: Check) -> Artifact:
    def hold(artifact: Artifact) -> None:
        form = (artifact.id, artifact.format, artifact.precision)
        if form != (offer.key, offer.format, offer.precision):
            wanted = f"{offer.key[:12]} {offer.format} {offer.precision}"
            raise ArtifactError(f"it must be {wanted}, as tagged, got {' '.join(form)}.")
        recorded = folder / "probe"
        check(artifact, recorded if recorded.is_dir() else None)

    return store.adopt(folder / "artifact", hold)


def remedy(address: str, uri: str, wanted: str, got: str, given: str = "") -> str:
    """Return that a converted model of *address* is missing, and what to run where.

    Args:
        wanted: What it must be.
        given: What `convert` is to be told; default: the address.
    """
    name = address.removeprefix("models:/").partition("/")[0]
    return (
        f"{address}: a converted model of {wanted} must be in the registry for the host, got "
        f"{got or 'none'}. On the host, run:\n"
        "  scanflow-serve profile --json > host.json\n"
        "On a machine with scanflow-serve[convert,track], run:\n"
        f"  export MLFLOW_TRACKING_URI={mlmodel.public(uri)}\n"
        f"  scanflow-serve convert {given or address} --for host.json\n"
        f"  scanflow-serve artifacts publish KEY --to models:/{name}"
        "  # for each KEY of: scanflow-serve artifacts list"
    )
