"""Zip archives are measured before anybody unpacks them: 4 MB of them can hold 4 GB of zeros.

What unpacks them (torch, skops) believes the sizes that the archive's directory declares, and
allocates them; so do Python's and torch's own readers, which stop at a declared size.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from scanflow_serve.policies.errors import ArtifactError

HARMLESS_BYTES = 256 * 2**20  # what any board has to spare
RATIO = 20  # torch and skops store without compression: 1; deflated weights seldom exceed 2


def require_proportion(where: str, path: Path) -> None:
    """Return if what is in *path* has a size in proportion; a file that is no archive passes.

    Raises:
        ArtifactError: It unpacks to more.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # its reader says what is wrong with it
    bound = max(HARMLESS_BYTES, RATIO * path.stat().st_size)
    if unpacked > bound:
        raise ArtifactError(
            f"{where}: {path.name} must unpack to at most {bound} bytes, {RATIO} times its size, "
            f"got {unpacked}. If it is yours, save it again without compression."
        )
