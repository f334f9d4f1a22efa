"""Steps that go wrong as native converters do: run by the tests in a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scanflow_serve.converters.conversion import Context
from scanflow_serve.policies.errors import ArtifactError


def crash(source: Path, folder: Path, context: Context) -> Path:
    (folder / "half.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hang(source: Path, folder: Path, context: Context) -> Path:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    source.with_name("pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
    raise AssertionError


def grow(source: Path, folder: Path, context: Context) -> Path:
    grown = bytearray(2**34)
    return folder / str(len(grown))


def refuse(source: Path, folder: Path, context: Context) -> Path:
    raise ArtifactError(f"{source}: must be nice.")


def fail(source: Path, folder: Path, context: Context) -> Path:
    raise KeyError("what nobody foresaw")


def copy(source: Path, folder: Path, context: Context) -> Path:
    print("a library talks")
    path = folder / "model.bin"
    told = f"{context.rows} {sorted(context.features)} {context.options}"
    path.write_text(f"{source.read_text()}|{told}")
    path.with_name("companion").write_text("")
    return path
