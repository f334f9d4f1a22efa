"""A third party's package of checks, built and installed as anybody's is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).parent / "plugins" / "sample"


def install(package: Path, folder: Path) -> Path:
    """Return *folder* with the package in it: what ``pip install --target`` makes of its source."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--no-cache-dir"]
    done = subprocess.run(
        [*command, "--target", str(folder), str(package)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder
