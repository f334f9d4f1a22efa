"""Child processes that may crash, hang or grow: bounded in time and memory, gone with their parent.

Native code that reads other people's files (converters, inference libraries) runs in one, so that
what it does wrong ends as a sentence and not as the end of the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

LOG_TAIL = 4096  # bytes of the child's output that may hold its last line
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended.

    Attributes:
        status: Exit status; negative: the signal that ended it; None: its time ran out.
        text: For people, such as ``was ended by SIGSEGV``.
        last_line: Of what it printed, without its full stop; empty if it printed nothing.
    """

    status: int | None
    text: str
    last_line: str = ""

    def __str__(self) -> str:
        """Return *text*, and the last line after a colon if there is one."""
        return f"{self.text}: {self.last_line}" if self.last_line else self.text


def run_module(module: str, job: Mapping[str, Any], *, timeout_s: float) -> Ending:
    """Run ``python -m MODULE`` with *job* as JSON on stdin, and return how it ended.

    Whatever it started ends with it.
    """
    with tempfile.TemporaryFile() as log:
        status = _run(module, json.dumps(job).encode(), timeout_s, log)
        return Ending(status, _ending(status, timeout_s), _last_line(log))


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def bound_memory(memory_mb: float) -> None:
    """Refuse this process more than *memory_mb* of memory of its own, where the system can.

    Bounded is what can be written (Linux: heap and private mappings), not address space: that of
    files mapped for reading, and of libraries, costs nothing.
    """
    if sys.platform != "linux":
        return
    import resource

    wanted = int(memory_mb * 2**20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    # A core file of a crash would hold other people's model, and as many bytes.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _run(module: str, job: bytes, timeout_s: float, log: IO[bytes]) -> int | None:
    # A group of its own, so that what the child started ends with it. -P: the working directory
    # may hold a file named like one of our imports.
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        child.communicate(job, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return child.returncode


def _ending(status: int | None, timeout_s: float) -> str:
    if status is None:
        return f"did not finish in {timeout_s:g} s"
    if status >= 0:
        return f"ended with exit status {status}"
    name = signal.Signals(-status).name
    cause = " (often: out of memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{cause}"


def _last_line(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - LOG_TAIL))
    lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip().rstrip(".") for line in reversed(lines) if line.strip()), "")
