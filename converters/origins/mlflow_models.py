"""Models in an MLflow registry or run: resolved to a version, downloaded once, kept.

What was downloaded is used without the server from then on: a version and a run do not change.
Only an alias is asked for again, and if the server does not answer, what it last stood for
is served, with a warning: a device that restarts without its network must still start.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanflow_serve.converters.origins.in_child import call_worker
from scanflow_serve.converters.origins.origin import Lineage
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError
from scanflow_serve.policies.files import inside
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.folders import cache_folder

log = logging.getLogger(__name__)
WORKER = "scanflow_serve.converters.origins.mlflow_worker"
TIMEOUT_S = 1800.0
VARIABLE = "MLFLOW_TRACKING_URI"
KEPT = "fetched.json"
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^/].*)")
_ADDRESS = re.compile(
    r"models:/(?P<model>[^/@:]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[\w.-]+))"
    r"|runs:/(?P<run>[0-9a-f]{32})/(?P<path>[^/].*)"
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A logged model on this machine."""

    folder: Path
    lineage: Lineage


def tracking_uri(where: str, policy_file: PolicyFile) -> str:
    """Return where MLflow is: the policy's ``track.uri``, else ``MLFLOW_TRACKING_URI``.

    Raises:
        ArtifactError: Neither is set.
    """
    track = policy_file.policy.track
    uri = track.uri if track is not None else os.environ.get(VARIABLE)
    if not uri:
        raise ArtifactError(
            f"{where}: a source in MLflow must have its server named, got neither track.uri nor "
            f"{VARIABLE}. Add to the policy: track: {{uri: http://HOST:5000}}"
        )
    relative = _SQLITE.fullmatch(uri)
    path = inside(policy_file.folder, relative[2]) if relative and track is not None else None
    return f"{relative[1]}{path}" if relative and path else uri


def fetch(where: str, address: str, policy_file: PolicyFile) -> Fetched:
    """Return the model at *address*, downloaded if it is not here yet.

    Raises:
        ArtifactError: The address is malformed, or the server lacks it or does not answer.
        MissingExtraError: mlflow is not installed, and it is not here yet.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ArtifactError(
            f"{where}: an MLflow address must read models:/NAME/VERSION, models:/NAME@ALIAS or "
            f"runs:/ID/PATH, got {address!r}."
        )
    uri = tracking_uri(where, policy_file)
    fixed = match["run"] or (match["version"] or "").isdigit()
    if fixed and (kept := _kept(uri, address)) is not None:
        return kept
    try:
        return _download(where, uri, address)
    except ArtifactError as error:
        kept = _kept(uri, address)
        if kept is None:
            raise
        log.warning("%s %s is used instead, as fetched before.", error, kept.lineage.address)
        return kept


def _folder(uri: str, address: str) -> Path:
    name = hashlib.sha256(f"{uri}\n{address}".encode()).hexdigest()
    return cache_folder() / "mlflow" / name


def _kept(uri: str, address: str) -> Fetched | None:
    """Return what is here of *address*; of an alias, what it last stood for."""
    try:
        value = json.loads((_folder(uri, address) / KEPT).read_bytes())
    except (OSError, ValueError):
        return None
    if value["address"] != address:
        return _kept(uri, value["address"])
    return Fetched(_folder(uri, address) / value["folder"], _lineage(value))


def _download(where: str, uri: str, address: str) -> Fetched:
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError(f"mlflow, which source {address} needs,", "track")
    home = cache_folder() / "mlflow"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="partial-") as name:
        partial = Path(name)
        job = {"uri": uri, "address": address, "folder": name, "where": where}
        resolved = call_worker(WORKER, job | {"action": "resolve"}, where, partial, TIMEOUT_S)
        fixed = resolved["address"]
        kept = _kept(uri, fixed)
        if kept is None:
            job |= {"address": fixed, "action": "download"}
            value = resolved | call_worker(WORKER, job, where, partial, TIMEOUT_S)
            (partial / KEPT).write_text(json.dumps(value))
            kept = _publish(partial, uri, fixed, value)
    if fixed != address:
        _point(uri, address, resolved)
    return kept


def _publish(partial: Path, uri: str, address: str, value: Mapping[str, Any]) -> Fetched:
    target = _folder(uri, address)
    try:
        partial.rename(target)
    except OSError:  # another process was first, or it was left half-removed
        if _kept(uri, address) is None:
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    partial.mkdir(exist_ok=True)  # the caller's temporary folder, which it removes
    return Fetched(target / str(value["folder"]), _lineage(value))


def _point(uri: str, address: str, resolved: Mapping[str, Any]) -> None:
    folder = _folder(uri, address)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{KEPT}.{os.getpid()}"
    partial.write_text(json.dumps(resolved))
    partial.replace(folder / KEPT)


def _lineage(value: Mapping[str, Any]) -> Lineage:
    return Lineage(str(value["address"]), dict(value["details"]))
