"""Locks between processes: the kernel frees `flock` when the holder dies, however it dies."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Give whether the file at *path* is locked by the caller now; free and remove it at the end.

    Args:
        wait: Wait for another holder, in this process or another, instead of giving False.
    """
    fd = _acquire(path, wait)
    if fd is None:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _acquire(path: Path, wait: bool) -> int | None:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            mine = _lock(fd, path, wait)
        except BaseException:
            os.close(fd)
            raise
        if mine and is_at(fd, path):
            return fd
        os.close(fd)
        if not mine:
            return None
        # Its holder has removed it while we waited: others lock a new one by now.


def _lock(fd: int, path: Path, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if wait:
            log.info("%s: waits for the process that holds it.", path)
            fcntl.flock(fd, fcntl.LOCK_EX)
        return wait
    return True


def is_at(fd: int, path: Path) -> bool:
    """Return whether the open file *fd* is still the one that *path* names."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
