"""The folder of an artifact store: what lies where, and how it is moved safely.

::

    PATH/made/KEY/          an artifact's files and manifest.json; here whole or not at all
    PATH/refused/KEY.json   why a conversion's outcome may not be served
    PATH/working/KEY.*/     being made, or being removed; what a dead process left is swept
    PATH/quarantine/KEY.*/  found corrupt, or withdrawn; kept until the next clean-up
    PATH/locks/KEY          held by the process that makes, moves or removes it
"""

from __future__ import annotations

import fcntl
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scanflow_serve.policies.errors import ArtifactError, StateError
from scanflow_serve.runtime import file_lock, stored

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """Places and moves; what is moved under a key is moved with the key's lock held."""

    path: Path

    def made(self, key: str) -> Path:
        """Return the folder of the artifact of *key*.

        Raises:
            ArtifactError: *key* is no key.
        """
        return self.path / "made" / _checked(key)

    def refusal(self, key: str) -> Path:
        """Return the file that says why *key* is refused."""
        return self.path / "refused" / f"{_checked(key)}.json"

    def keys(self, kind: str) -> tuple[str, ...]:
        """Return the keys that the folder *kind* has something of, sorted."""
        try:
            names = {path.name.partition(".")[0] for path in (self.path / kind).iterdir()}
        except FileNotFoundError:
            return ()
        return tuple(sorted(name for name in names if _KEY.fullmatch(name)))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the operating system refuses into an error that says what to do.

        Raises:
            StateError: The folder can't be written.
        """
        try:
            yield
        except OSError as error:
            raise StateError(
                f"{self.path}: the artifact store must be writable, got {error.strerror!r}. "
                "Make room by 'scanflow-serve artifacts gc --max-mb N', or name another cache "
                "folder in SCANFLOW_CACHE."
            ) from error

    @contextmanager
    def locked(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Give whether *key* is locked by the caller; False only where it does not *wait*."""
        path = self.path / "locks" / _checked(key)
        with ExitStack() as held:
            with self.writing():
                path.parent.mkdir(parents=True, exist_ok=True)
                mine = held.enter_context(file_lock.locked(path, wait=wait))
            yield mine

    @contextmanager
    def working(self, key: str) -> Iterator[Path]:
        """Give an empty folder to make *key* in; it is removed, unless it was placed."""
        work = self._new("working", key)
        with self.writing():
            work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def place(self, key: str, work: Path) -> Path:
        """Return where the sealed folder *work* lies now: at its place, from one moment on."""
        target = self.made(key)
        with self.writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            stored.move(work, target)
        return target

    def withdraw(self, key: str) -> Path | None:
        """Return where in the quarantine the artifact of *key* lies now; None if there is none."""
        source, target = self.made(key), self._new("quarantine", key)
        if not source.exists():
            return None
        with self.writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            stored.move(source, target)
        return target

    def remove(self, key: str) -> bool:
        """Return whether the artifact of *key* is gone: it stays if a live process has it."""
        source, target = self.made(key), self._new("working", key)
        with self.locked(key, wait=False) as mine, _unused(source / stored.FILE) as unused:
            if not (mine and unused):
                return False
            if not source.exists():
                return True  # another process has removed it
            with self.writing():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
                shutil.rmtree(target)
            return True

    def sweep(self, own: str | None = None) -> None:
        """Remove what dead processes left: a live one holds the lock of its key.

        Args:
            own: A key that the caller has locked, but has made nothing of yet.
        """
        partials = {path.name.partition(".")[0] for path in self._partials("*")}
        for key in {*self.keys("working"), *self.keys("locks"), *filter(_KEY.fullmatch, partials)}:
            if key == own:
                self._remove_leftovers(key)
                continue
            with self.locked(key, wait=False) as mine:
                if mine:
                    self._remove_leftovers(key)

    def empty_quarantine(self) -> None:
        """Remove all that was found corrupt."""
        for folder in (self.path / "quarantine").glob("*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _remove_leftovers(self, key: str) -> None:
        for folder in (self.path / "working").glob(f"{key}.*"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self._partials(key):
            file.unlink(missing_ok=True)

    def _partials(self, key: str) -> list[Path]:
        return list((self.path / "refused").glob(f"{key}.*.partial"))

    def _new(self, kind: str, key: str) -> Path:
        # Not tempfile.mkdtemp: its folders are for the owner alone, and a store may be packed
        # into an image that runs as another user.
        return self.path / kind / f"{_checked(key)}.{secrets.token_hex(8)}"


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ArtifactError(f"The key of an artifact must be 64 hex digits, got {key!r}.")
    return key


@contextmanager
def _unused(manifest: Path) -> Iterator[bool]:
    """Give whether no live process holds the artifact; none can, until the end."""
    try:
        file = manifest.open("rb")
    except OSError:
        yield True  # corrupt: nobody can serve it
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
