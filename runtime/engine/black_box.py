"""What a worker was running when it died: a file that survives a segfault.

Context: a backend that crashes takes the whole process down; a restarted worker that trusts the
same variant at once would crash again at the next request.

Outcome: each worker maps a small file, and counts in it the calls of each variant that run. The
pages belong to the kernel, so they are there after any death but a power cut's. A worker that
starts reads the boxes of dead ones: what they ran is suspected, and pauses, longer each time.

Price: two writes of one byte a call, 0.1 us; what merely ran beside the culprit is suspected too.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scanflow_serve.policies.errors import StateError

ENTRIES = 128  # variants; more go unwatched
NAME_BYTES = 511  # of a variant's id, cut beyond
ENTRY_BYTES = 1 + NAME_BYTES
PREFIX, SUFFIX = "running.", ".box"
LEDGER = "crashes.json"


class BlackBox:
    """The calls that run in this process, by variant; for the event loop's thread alone.

    Args:
        folder: The policy's state folder.

    Raises:
        StateError: It can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._places: dict[str, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd, path = tempfile.mkstemp(SUFFIX, PREFIX, folder)
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # until we die, however we do
            os.truncate(self._fd, ENTRIES * ENTRY_BYTES)
            self._map = mmap.mmap(self._fd, ENTRIES * ENTRY_BYTES)
        except OSError as error:
            raise StateError(
                f"{folder}: must be writable, got {error.strerror!r}. "
                "Choose another folder by --state."
            ) from error
        self._path = Path(path)

    def place(self, variant: str) -> int:
        """Return where *variant* is counted; -1 if there is no place left."""
        place = self._places.get(variant)
        if place is None:
            if len(self._places) == ENTRIES:
                return -1
            place = self._places[variant] = len(self._places) * ENTRY_BYTES
            name = variant.encode()[:NAME_BYTES]
            self._map[place + 1 : place + 1 + len(name)] = name
        return place

    def enter(self, place: int) -> None:
        """Count a call in."""
        if place >= 0:
            self._map[place] += 1

    def leave(self, place: int) -> None:
        """Count a call out."""
        if place >= 0:
            self._map[place] -= 1

    def close(self) -> None:
        """Remove the file: this process ends in good order."""
        with suppress(OSError):
            self._path.unlink()
        self._map.close()
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Crashes:
    """Variants that ran when a worker died, and how often each did, in a policy's state folder."""

    folder: Path

    def collect(self) -> dict[str, int]:
        """Return the suspects of workers that died since, with how often each was one by now."""
        counts = self._read()
        suspects: set[str] = set()
        for path in sorted(self.folder.glob(f"{PREFIX}*{SUFFIX}")):
            with suppress(OSError), path.open("rb") as file:  # or another worker took it
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its worker lives
                suspects.update(_running(file.read()))
                path.unlink()
        if not suspects:
            return {}
        counts |= {variant: counts.get(variant, 0) + 1 for variant in suspects}
        self._write(counts)
        return {variant: counts[variant] for variant in suspects}

    def forgive(self, variant: str) -> None:
        """Forget the crashes of *variant*: it answers again."""
        counts = self._read()
        if counts.pop(variant, None) is not None:
            self._write(counts)

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads((self.folder / LEDGER).read_bytes())
            return {str(variant): int(count) for variant, count in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # none yet; or a file that tells nothing, and is written anew

    def _write(self, counts: dict[str, int]) -> None:
        draft = self.folder / f"{LEDGER}.{os.getpid()}.partial"
        with suppress(OSError):  # then the next crash is counted as the first
            draft.write_text(json.dumps(counts), encoding="utf-8")
            draft.replace(self.folder / LEDGER)


def _running(content: bytes) -> Iterable[str]:
    """Return the variants whose calls were running, by the *content* of a box."""
    entries = (content[at : at + ENTRY_BYTES] for at in range(0, len(content), ENTRY_BYTES))
    return [
        entry[1:].rstrip(b"\0").decode(errors="replace")
        for entry in entries
        if len(entry) == ENTRY_BYTES and entry[0] and entry[1]
    ]
