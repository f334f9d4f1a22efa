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
import zipfile
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

    Args:
        folder: Made when something is first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, checkpoint: Checkpoint, *, sync: bool = False) -> None:
        """Keep *checkpoint* of the check *name*.

        Raises:
            StateError: The folder can't be written.
        """
        content = io.BytesIO()
        document = {"format": FORMAT, "digest": checkpoint.digest, **checkpoint.document}
        text = np.frombuffer(json.dumps(document).encode(), np.uint8)
        arrays: dict[str, Any] = {_DOCUMENT: text, **checkpoint.arrays}
        np.savez(content, **arrays)
        path = self._path(name)
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

    def load(self, name: str, digest: str) -> Checkpoint | None:
        """Return what was kept of the check *name*; None if nothing that fits *digest* was.

        A file that can't be read counts as none: a check that begins anew is better than a
        server that does not start.
        """
        try:
            with self._path(name).open("rb") as stream:  # ours: numpy leaves a torn file open
                file = np.load(stream, allow_pickle=False)
                arrays = {key: file[key] for key in file.files}
            document = json.loads(arrays.pop(_DOCUMENT).tobytes())
            if document.pop("format") != FORMAT or document.pop("digest") != digest:
                return None
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
            return None
        return Checkpoint(digest, document, arrays)

    def forget(self, name: str) -> None:
        """Remove what was kept of the check *name*."""
        with suppress(FileNotFoundError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"
