"""A converted model in a folder of its own: its files, and the manifest that vouches for them.

``manifest.json`` names every file with size and SHA-256, and holds its own digest, so that a bit
that flipped anywhere is found. It is no signature: whoever can write it can forge it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.artifacts import (
    MANIFEST_VERSION,
    Artifact,
    Format,
    Manifest,
    file_digest,
)
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.tensors import Signature

FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Made:
    """A model that a conversion has written, and that has passed its verification.

    Attributes:
        model: The model's name where it was made; another policy may name it otherwise.
        files: Inside the folder that the conversion was given: first the one that a backend
            loads, then all that it needs beside it. What else lies there is removed.
        manifest: Its mappings hold what JSON can hold.
    """

    model: str
    format: Format
    precision: str
    files: tuple[Path, ...]
    signature: Signature
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Refused:
    """A conversion whose outcome may not be served; `manifest` holds the figures that say so."""

    model: str
    format: Format
    precision: str
    refusal: Refusal
    manifest: Manifest

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; a figure that is NaN or infinite is null."""
        return dict(_plain(asdict(self)))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Refused:
        """Return the refused conversion whose JSON form is *value*."""
        refusal, manifest = Refusal(**value["refusal"]), Manifest.from_json(value["manifest"])
        return cls(**{**value, "refusal": refusal, "manifest": manifest})


def seal(folder: Path, key: str, made: Made) -> Artifact:
    """Return *made* as an artifact: only its files stay in *folder*, on disk, with a manifest.

    Raises:
        ArtifactError: A file is missing, a link, or outside of *folder*.
    """
    names = [_inside(folder, path) for path in made.files]
    weights = made.files[0].with_suffix(".bin")
    if made.format == "openvino" and weights not in made.files:
        raise ArtifactError(f"{weights}: must be among the model's files, got {names}.")
    _remove_others(folder, names)
    document = {
        "schema": MANIFEST_VERSION,
        "key": key,
        "model": made.model,
        "format": made.format,
        "precision": made.precision,
        "files": [_entry(folder, name) for name in names],
        "signature": made.signature.to_json(),
        "manifest": _plain(asdict(made.manifest)),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(folder / FILE, {**document, "digest": _digest(document)})
    for name in names:
        _flush(folder / name)
    for parent in {folder, *((folder / name).parent for name in names)}:
        _flush(parent)
    return _artifact(folder, document)


def load(folder: Path, key: str, *, contents: bool = True) -> Artifact:
    """Return the artifact in *folder*.

    Args:
        contents: Also hold the bytes of its files to their digests.

    Raises:
        ArtifactError: It is not exactly what was sealed there under *key*.
    """
    document = load_document(folder)
    path = folder / FILE
    if document.get("key") != key:
        _corrupt(path, f"key must be {key!r}", document.get("key"))
    try:
        artifact = _artifact(folder, document)
        files = {f["name"]: (f["bytes"], f["sha256"]) for f in document["files"]}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        _corrupt(path, "must describe an artifact", f"{type(error).__name__}: {error}")
    found = {file.relative_to(folder).as_posix() for file in _files(folder)}
    if found != files.keys():
        _corrupt(path, f"files must be {sorted(files)}", sorted(found))
    for name, (size, digest) in files.items():
        _compare(folder / name, size, digest if contents else None)
    return artifact


def load_document(folder: Path) -> dict[str, Any]:
    """Return the manifest in *folder*, as it is written there.

    Raises:
        ArtifactError: It is missing, corrupt, or of another version's schema.
    """
    path = folder / FILE
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        _corrupt(path, "must be readable", error.strerror)
    except ValueError as error:
        _corrupt(path, "must be JSON", str(error))
    if not isinstance(document, dict) or document.get("schema") != MANIFEST_VERSION:
        found = document.get("schema") if isinstance(document, dict) else document
        _corrupt(path, f"schema must be {MANIFEST_VERSION}", found)
    digest = _digest({name: value for name, value in document.items() if name != "digest"})
    if document.get("digest") != digest:
        _corrupt(path, f"digest must be {digest}", document.get("digest"))
    return document


def write_json(path: Path, value: Any) -> None:
    """Write *value* to *path*, whole or not at all, and to the disk."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
        _flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _flush(path.parent)


def copy(source: Path, target: Path) -> None:
    """Copy a sealed folder into the empty folder *target*, and to the disk."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    for parent, _, names in os.walk(target):
        for name in names:
            if not Path(parent, name).is_symlink():
                _flush(Path(parent, name))
        _flush(Path(parent))


def extent(folder: Path) -> tuple[int, float]:
    """Return the bytes of all files in *folder*, and when it was last used, in s since the epoch.

    Raises:
        OSError: It is being removed.
    """
    manifest = folder / FILE
    used = manifest if manifest.is_file() else folder
    size = sum(file.lstat().st_size for file in _files(folder))
    return size + (manifest.stat().st_size if used is manifest else 0), used.stat().st_mtime


def move(source: Path, target: Path) -> None:
    """Rename a folder, and have the disk know of it."""
    source.rename(target)
    _flush(target.parent)


def _artifact(folder: Path, document: Mapping[str, Any]) -> Artifact:
    return Artifact(
        id=document["key"],
        model=document["model"],
        format=document["format"],
        precision=document["precision"],
        path=folder / document["files"][0]["name"],
        size_bytes=sum(entry["bytes"] for entry in document["files"]),
        signature=Signature.from_json(document["signature"]),
        manifest=Manifest.from_json(document["manifest"]),
        data=tuple(folder / entry["name"] for entry in document["files"][1:]),
    )


def _inside(folder: Path, path: Path) -> str:
    if path.is_symlink() or not path.is_file() or path == folder / FILE:
        raise ArtifactError(f"{path}: must be a file of the converted model, got none.")
    real, root = path.resolve(), folder.resolve()
    if not real.is_relative_to(root):
        raise ArtifactError(f"{path}: must lie in {folder}, got a file outside of it.")
    return real.relative_to(root).as_posix()


def _remove_others(folder: Path, names: Collection[str]) -> None:
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in names:
            path.unlink()
    for parent, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(parent):
            os.rmdir(parent)


def _compare(path: Path, size: int, digest: str | None) -> None:
    """Hold the file at *path* to its *size*, and to its *digest* where that is given."""
    try:
        status = path.lstat()
    except OSError as error:
        _corrupt(path, "must be there", error.strerror)
    if not stat.S_ISREG(status.st_mode):
        _corrupt(path, "must be a file", stat.filemode(status.st_mode))
    if status.st_size != size:
        _corrupt(path, f"must have {size} bytes", status.st_size)
    if digest is not None and (found := file_digest(path)) != digest:
        _corrupt(path, f"SHA-256 must be {digest}", found)


def _files(folder: Path) -> Iterator[Path]:
    """Give every file of *folder* but the manifest; a link is one too, and is not followed."""
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent, name)
            if path != folder / FILE:
                yield path


def _entry(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return {"name": name, "sha256": file_digest(path), "bytes": path.stat().st_size}


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return *value* as JSON can hold it everywhere: it has no NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _corrupt(where: Path, rule: str, found: object) -> NoReturn:
    raise ArtifactError(f"{where}: {rule}, got {found!r}. Make the artifact again.") from None
