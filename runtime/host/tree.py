"""Reading a machine's files below a root, so that a folder can stand for a machine."""

from __future__ import annotations

import errno
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 8 << 20  # of one file; /proc/cpuinfo has 2 kB a CPU, libc.so.6 2 MB
PAGE = 4096  # bytes
MAX_CPUS = 8192  # NR_CPUS of Linux's MAXSMP configuration

# What sysfs answers for an attribute that this hardware does not have, or not now.
_ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EAGAIN,
        errno.EINVAL,
        errno.ENODATA,
        errno.ENODEV,
        errno.ENXIO,
        errno.EOPNOTSUPP,
    }
)


@dataclass(frozen=True, slots=True)
class Tree:
    """The files below *root*; what is absent reads as None, what is absurd also warns.

    Links are followed as if *root* were ``/``, and never out of it.
    """

    root: str
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Keep *text* among the warnings, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def exists(self, path: str) -> bool:
        """Return whether *path* is there."""
        place = self._locate(path)
        return place is not None and os.path.exists(place)

    def is_folder(self, path: str) -> bool:
        """Return whether *path* is a folder."""
        place = self._locate(path)
        return place is not None and os.path.isdir(place)

    def names(self, path: str) -> list[str]:
        """Return the sorted names in the folder *path*; none if it is absent."""
        place = self._locate(path)
        try:
            return sorted(os.listdir(place)) if place is not None else []
        except FileNotFoundError:
            return []
        except OSError as error:
            self.warn(f"{path}: must be a readable folder, got {error.strerror!r}. Ignored.")
            return []

    def read(self, path: str, limit: int = MAX_BYTES) -> bytes | None:
        """Return at most *limit* bytes of the file."""
        try:
            place = self._locate(path)
            if place is None:
                return None
            # Without O_NONBLOCK a named pipe would hang the start of the server.
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return _read(descriptor, limit)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in _ABSENT:
                self.warn(f"{path}: must be a readable file, got {error.strerror!r}. Ignored.")
        except ValueError:  # a path with a NUL byte
            return None
        return None

    def text(self, path: str) -> str | None:
        """Return the file's text, stripped; NUL bytes, as device trees have, become spaces."""
        data = self.read(path)
        if data is None:
            return None
        return data.decode(errors="replace").replace("\0", " ").strip()

    def line(self, path: str) -> str:
        """Return the file's text as one printable line, "" if there is none."""
        return printable(self.text(path) or "")

    def number(self, path: str, low: float, high: float) -> float | None:
        """Return the file's number if it lies in [low, high]."""
        text = self.text(path)
        return None if text is None else self.checked(path, text, low, high)

    def checked(self, where: str, text: str, low: float, high: float) -> float | None:
        """Return the number in *text* if it lies in [low, high]; warn about *where* if not."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        rule = f"must be a number from {low:.15g} to {high:.15g}"
        self.warn(f"{where}: {rule}, got {text[:40]!r}. Taken as unknown.")
        return None

    def cpu_count(self, where: str, text: str) -> int | None:
        """Return how many CPUs a kernel list such as ``0-3,8`` names."""
        count = 0
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            if not first.isdecimal() or not (last or first).isdecimal():
                count = -1
                break
            # Six digits are enough for any CPU, and spare int() absurdly long ones.
            count += int((last or first)[:6]) - int(first[:6]) + 1
        if 1 <= count <= MAX_CPUS:
            return count
        self.warn(f"{where}: must be a list of CPUs, got {text[:40]!r}. Taken as unknown.")
        return None

    def _locate(self, path: str) -> str | None:
        if self.root == "/":
            return path
        try:
            real = os.path.realpath(self.root + path)
            if not self._inside(real):
                real = os.path.realpath(self.root + real)  # a link to an absolute path
        except (OSError, ValueError):
            return None
        return real if self._inside(real) else None

    def _inside(self, real: str) -> bool:
        return real == self.root or real.startswith(self.root + os.sep)


def open_tree(root: str | Path) -> Tree:
    """Return the tree below *root*.

    Raises:
        NotADirectoryError: *root* is not a folder.
    """
    real = os.path.realpath(root)
    if not os.path.isdir(real):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(root))
    return Tree(real)


def printable(text: str) -> str:
    r"""Return *text* on one line, at most 200 characters, free of control characters.

    >>> printable("Raspberry Pi 4\n\x1b[31m")
    'Raspberry Pi 4 [31m'
    """
    kept = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(kept.split())[:200]


def _read(descriptor: int, limit: int) -> bytes:
    """Return at most *limit* bytes, a page at a time.

    For files of /proc/sys the kernel allocates as much as is asked for, in one piece: a megabyte
    fails with ENOMEM once memory is fragmented.
    """
    parts: list[bytes] = []
    left = limit
    while left and (part := os.read(descriptor, min(left, PAGE))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
