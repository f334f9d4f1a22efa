"""Converted models on this host, found by the hash of all that they were made from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeAlias

from scanflow_serve.policies.errors import ArtifactError, StateError
from scanflow_serve.runtime import stored
from scanflow_serve.runtime.artifacts import MANIFEST_VERSION, Artifact
from scanflow_serve.runtime.file_lock import is_at
from scanflow_serve.runtime.folders import cache_folder
from scanflow_serve.runtime.inventory import Collected, Entry
from scanflow_serve.runtime.store_folder import StoreFolder
from scanflow_serve.runtime.stored import Made, Refused

MB = 2**20

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int, str], None]  # done, total, key


def artifact_key(
    source_digest: str, route: Sequence[str], options: Mapping[str, Any], tools: Mapping[str, str]
) -> str:
    """Return the hash of all that a converted model depends on, in hex.

    Args:
        source_digest: SHA-256 of the source: weights and code.
        options: JSON values. What a verdict depends on belongs here too (the digest of the
            validation data, the allowed drop), so that a refusal does not outlive its reasons.
        tools: Tool name -> version, of those that take part.

    >>> artifact_key("00", ["onnx-int8"], {"rows": 64}, {"onnx": "1.23"})[:8]
    '8190ffd1'
    """
    document = [MANIFEST_VERSION, source_digest, list(route), dict(options), dict(tools)]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def shared_store() -> ArtifactStore:
    """Return the store in the user's cache folder, shared between policies."""
    return ArtifactStore(cache_folder() / "store")


def held_in_store(artifact: Artifact) -> IO[bytes] | None:
    """Return what `ArtifactStore.hold` does, None if *artifact* does not lie in a store.

    Raises:
        ArtifactError: It is gone; prepare again, and it is made anew.
    """
    for made in artifact.path.parents:
        if made.name == artifact.id and made.parent.name == "made":
            return ArtifactStore(made.parent.parent).hold(artifact.id)
    return None


class ArtifactStore:
    """Artifacts by key, shared by the processes of a host; nothing in it is ever half-written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._folder = StoreFolder(self.folder)

    def find(self, key: str) -> Artifact | None:
        """Return the artifact of *key*; its model is named as it was where it was made.

        A corrupt one is moved to the quarantine, with a warning, and counts as missing.
        """
        try:
            return self._load(key)
        except ArtifactError:
            self._withdraw_corrupt(key)
            return None

    def refused(self, key: str) -> Refused | None:
        """Return why the conversion of *key* was refused; None if it was not."""
        path = self._folder.refusal(key)
        try:
            return Refused.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: ignored, the conversion is tried again: %s", path, error)
            return None

    def publish(self, key: str, make: Callable[[Path], Made | Refused]) -> Artifact | Refused:
        """Return the artifact of *key*, or its refusal; made now unless it is known.

        Of several processes or threads that ask at once, one makes it and the others wait.

        Args:
            make: Converts into the empty folder that it is given, and verifies there. What it
                raises is raised here, and nothing is kept. It must return a refusal only where
                it would refuse again, since that is remembered.

        Raises:
            StateError: The store can't be written.
        """
        known = self.find(key) or self.refused(key)
        if known is not None:
            return known
        with self._folder.locked(key):
            known = self._intact(key) or self.refused(key)
            if known is not None:
                return known
            self._folder.sweep(own=key)
            with self._folder.working(key) as work:
                made = make(work)
                if isinstance(made, Refused):
                    self._keep_refusal(key, made)
                    return made
                with self._folder.writing():
                    stored.seal(work, key, made)
                return stored.load(self._folder.place(key, work), key, contents=False)

    def refuse(self, key: str, refused: Refused) -> None:
        """Remember that the outcome of *key* may not be served; an artifact of it is withdrawn.

        Raises:
            StateError: The store can't be written.
        """
        with self._folder.locked(key):
            self._folder.withdraw(key)
            self._keep_refusal(key, refused)

    def forget(self, key: str) -> None:
        """Forget a refusal, so that the conversion is tried again."""
        with self._folder.writing():
            self._folder.refusal(key).unlink(missing_ok=True)

    def adopt(self, folder: Path, check: Callable[[Artifact], None]) -> Artifact:
        """Return the artifact that was made elsewhere and lies in *folder*, copied into the store.

        Args:
            check: Raises if the artifact, lying in this store's working folder, may not be
                served on this host.

        Raises:
            ArtifactError: It is not exactly what was made there.
            StateError: The store can't be written.
        """
        key = str(stored.load_document(folder).get("key"))
        stored.load(folder, key, contents=False)  # before copying: it may name or hold anything
        with self._folder.locked(key):
            known = self._intact(key)
            if known is not None:
                return known
            with self._folder.working(key) as work:
                with self._folder.writing():
                    stored.copy(folder, work)
                check(stored.load(work, key))
                artifact = stored.load(self._folder.place(key, work), key, contents=False)
        self.forget(key)
        return artifact

    def manifest(self, key: str) -> dict[str, Any]:
        """Return the document beside the artifact of *key*.

        Raises:
            ArtifactError: It is missing or corrupt.
        """
        return stored.load_document(self._folder.made(key))

    def hold(self, key: str) -> IO[bytes]:
        """Return an open file: until it is closed, or this process ends, `gc` keeps the artifact.

        Raises:
            ArtifactError: The artifact is gone; publish it again.
        """
        path = self._folder.made(key) / stored.FILE
        try:
            file = path.open("rb")
        except OSError as error:
            raise _gone(path, error.strerror) from None
        fcntl.flock(file, fcntl.LOCK_SH)
        if not is_at(file.fileno(), path):
            file.close()
            raise _gone(path, "removed just now")
        return file

    def list(self) -> tuple[Entry, ...]:
        """Return every artifact, by key; files are held to their sizes, not to their digests."""
        entries = (self._entry(key, contents=False) for key in self._folder.keys("made"))
        return tuple(entry for entry in entries if entry is not None)

    def refusals(self) -> dict[str, Refused]:
        """Return every refusal, by key."""
        found = {key: self.refused(key) for key in self._folder.keys("refused")}
        return {key: refused for key, refused in found.items() if refused is not None}

    def verify(self, progress: Progress | None = None) -> tuple[Entry, ...]:
        """Return every artifact, held to its digests; corrupt ones are moved to the quarantine."""
        keys = self._folder.keys("made")
        entries: list[Entry] = []
        for done, key in enumerate(keys):
            if progress is not None:
                progress(done, len(keys), key)
            entry = self._entry(key, contents=True)
            if entry is not None:
                entries.append(entry)
                if entry.fault is not None:
                    self._withdraw_corrupt(key)
        return tuple(entries)

    def gc(self, max_mb: float, *, dry_run: bool = False) -> Collected:
        """Remove corrupt artifacts, then the least recently used until *max_mb* MiB are left.

        Leftovers of dead processes and the quarantine go too; what a live process has stays.

        Raises:
            StateError: The store can't be written.
        """
        entries = sorted(self.list(), key=lambda entry: (entry.fault is None, entry.used_at))
        size = sum(entry.size_bytes for entry in entries)
        removed: list[Entry] = []
        held: list[Entry] = []
        for entry in entries:
            if entry.fault is None and size <= max_mb * MB:
                break
            if dry_run or self._folder.remove(entry.key):
                removed.append(entry)
                size -= entry.size_bytes
            else:
                held.append(entry)
        if not dry_run:
            self._folder.sweep()
            self._folder.empty_quarantine()
        return Collected(tuple(removed), size, tuple(held))

    def _load(self, key: str) -> Artifact | None:
        """Return the artifact of *key*, None if there is none, and note that it is used.

        Raises:
            ArtifactError: It is corrupt.
        """
        folder = self._folder.made(key)
        if not folder.exists():
            return None
        artifact = stored.load(folder, key)
        try:
            os.utime(folder / stored.FILE)
        except OSError:
            log.debug("%s: use can't be noted: the store can't be written.", folder)
        return artifact

    def _intact(self, key: str) -> Artifact | None:
        """Return the artifact of *key*, whose lock is held; a corrupt one is out of the way."""
        try:
            return self._load(key)
        except ArtifactError as error:
            place = self._folder.withdraw(key)
            log.warning("Artifact %s: corrupt, moved to %s: %s", key, place, error)
            return None

    def _withdraw_corrupt(self, key: str) -> None:
        """Look again with the lock held: by now another process may have made it anew."""
        try:
            with self._folder.locked(key, wait=False) as mine:
                if mine:
                    self._intact(key)
        except StateError as error:
            log.warning("Artifact %s: corrupt, and can't be moved away: %s", key, error)

    def _keep_refusal(self, key: str, refused: Refused) -> None:
        path = self._folder.refusal(key)
        with self._folder.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            stored.write_json(path, refused.to_json())

    def _entry(self, key: str, *, contents: bool) -> Entry | None:
        folder = self._folder.made(key)
        artifact, fault = None, None
        try:
            artifact = stored.load(folder, key, contents=contents)
        except ArtifactError as error:
            fault = str(error)
        try:
            size, used_s = stored.extent(folder)
        except OSError:
            return None  # removed meanwhile
        return Entry(key, artifact, fault, size, datetime.fromtimestamp(used_s, UTC))


def _gone(path: Path, found: str | None) -> ArtifactError:
    return ArtifactError(f"{path}: must be there to be held, got {found!r}. Make it again.")
