"""One live server a state folder: a file lock that names its holder.

The kernel releases `flock` when the holder dies, however it dies, so a stale lock is taken over
by simply locking. The pid in the file only serves the error text.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from scanflow_serve.policies.errors import StateError

FILE = "lock"


class StateLock:
    """The exclusive use of a state folder by this process."""

    def __init__(self, state: Path, fd: int) -> None:
        self.state = state
        self.fd = fd

    @classmethod
    def acquire(cls, state: Path) -> StateLock:
        """Return the lock of *state*, making the folder if need be.

        Raises:
            StateError: A live process holds it, or the folder can't be written.
        """
        path = state / FILE
        try:
            state.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"{state}: the state folder must be writable, got {error.strerror!r}. "
                "Name another with --state DIR."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StateError(
                f"{state}: the state folder must be free, got a server with pid {holder}. "
                "Stop it, or name another folder with --state DIR."
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return cls(state, fd)

    def survive_exec(self) -> None:
        """Keep the lock when this process replaces itself by another program."""
        os.set_inheritable(self.fd, True)

    def release(self) -> None:
        """Free the folder for others."""
        os.close(self.fd)
