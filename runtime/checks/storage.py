"""What checks keep over a restart: a file a check in the state folder, whole or not at all.

A file holds the arrays of `Check.state`, and beside them what the host knows (phase, state,
evidence) as JSON. It is written aside and renamed, so that a process that is killed leaves the
checkpoint before; only what must not be lost in a power cut (an alarm, what people said) is
synced to the disk.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.policies.errors import StateError
from scanflow_serve.runtime.tensors import Array

FOLDER = "checks"  # in the policy's state folder
FORMAT = 1
CHANGED = ".changed.npz"
_DOCUMENT = "__document__"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is kept of one check.

    Attributes:
        digest: Of all that the state was learned from: settings, reference, signature.
        document: What the host knows, as JSON.
        arrays: What the check knows; empty until it is fitted.
    """

    digest: str
    document: Mapping[str, Any]
    arrays: Mapping[str, Array]


class Storage:
    """The checkpoints of one policy's checks.

    Most of a check's arrays never change once it is fitted: a file holds them all, a second one
    beside it what has changed since.

    Args:
        folder: Made when something is first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, _Whole] = {}

    def save(self, name: str, checkpoint: Checkpoint, *, sync: bool = False) -> None:
        """Keep *checkpoint* of the check *name*.

        Raises:
            StateError: The folder can't be written.
        """
        sums = {key: _checksum(array) for key, array in checkpoint.arrays.items()}
        whole = self._whole.get(name)
        if whole is not None and whole.sums.keys() == sums.keys():
            changed = {
                key: a for key, a in checkpoint.arrays.items() if sums[key] != whole.sums[key]
            }
            if 2 * sum(a.nbytes for a in changed.values()) <= whole.size:
                self._write(self._path(name, CHANGED), checkpoint, changed, whole.token, sync)
                return
        token = secrets.token_hex(8)
        self._write(self._path(name), checkpoint, checkpoint.arrays, token, sync)
        size = sum(array.nbytes for array in checkpoint.arrays.values())
        self._whole[name] = _Whole(token, sums, size)

    def load(self, name: str, digest: str) -> Checkpoint | None:
        """Return what was kept of the check *name*; None if nothing that fits *digest* was.

        A file that can't be read counts as none: a check that begins anew is better than a
        server that does not start.
        """
        whole = _read(self._path(name))
        if whole is None or whole.document.get("digest") != digest:
            return None
        changed = _read(self._path(name, CHANGED))
        if changed is not None and changed.document["token"] == whole.document["token"]:
            whole = Checkpoint("", changed.document, {**whole.arrays, **changed.arrays})
        document = {k: v for k, v in whole.document.items() if k not in ("digest", "token")}
        return Checkpoint(digest, document, whole.arrays)

    def forget(self, name: str) -> None:
        """Remove what was kept of the check *name*."""
        self._whole.pop(name, None)
        for path in (self._path(name), self._path(name, CHANGED)):
            with suppress(FileNotFoundError):
                path.unlink()

    def _path(self, name: str, suffix: str = ".npz") -> Path:
        return self.folder / f"{name}{suffix}"

    def _write(
        self, path: Path, kept: Checkpoint, arrays: Mapping[str, Array], token: str, sync: bool
    ) -> None:
        document = {"format": FORMAT, "digest": kept.digest, "token": token, **kept.document}
        content = io.BytesIO()
        text = np.frombuffer(json.dumps(document).encode(), np.uint8)
        named: dict[str, Any] = {_DOCUMENT: text, **arrays}
        np.savez(content, **named)
        draft = path.with_suffix(f".{os.getpid()}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(content.getbuffer())
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            raise StateError(
                f"{path}: must be writable, got {error.strerror!r}. "
                "Free space, or choose another folder by --state."
            ) from error


@dataclass(frozen=True, slots=True)
class _Whole:
    """What the file of all arrays holds: which one it is, a checksum an array, bytes."""

    token: str
    sums: Mapping[str, int]
    size: int


def _checksum(array: Array) -> int:
    seed = zlib.crc32(f"{array.dtype}{array.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(array).tobytes(), seed)


def _read(path: Path) -> Checkpoint | None:
    try:
        with path.open("rb") as stream:  # ours: numpy leaves a torn file open
            file = np.load(stream, allow_pickle=False)
            arrays = {key: file[key] for key in file.files}
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
        if document.pop("format") != FORMAT or "token" not in document:
            return None
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
        return None
    return Checkpoint("", document, arrays)
