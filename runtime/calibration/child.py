"""Runs a job in a child process that may crash, hang or be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import IO

from scanflow_serve.runtime.calibration.job import Job, Result, read_result
from scanflow_serve.runtime.measurements import Refusal

WORKER = "scanflow_serve.runtime.calibration.worker"
LOG_TAIL = 4096  # bytes of the child's output that may hold its last line


def run_child(job: Job, timeout_s: float) -> list[Result]:
    """Return the result of every candidate of *job*; a refusal for those that it did not reach."""
    with tempfile.TemporaryFile() as log:
        how = _run(job, timeout_s, log)
        last = _last_line(log)
    results = []
    for number in range(len(job.candidates)):
        try:
            results.append(read_result(job.folder / str(number)))
        except FileNotFoundError:
            reason = f"the measuring process {how}{f': {last}' if last else ''}."
            results.append(Result(refusal=Refusal("failed", reason)))
    return results


def _run(job: Job, timeout_s: float, log: IO[bytes]) -> str:
    """Run the child to its end; return how it ended, for people."""
    # A group of its own, so that what a Python step started ends with it. -P: the working
    # directory may hold a file named like one of our imports.
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", WORKER],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        child.communicate(json.dumps(job.to_json()).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return f"did not finish in {timeout_s:.0f} s (it hangs, or the host is too slow for it)"
    finally:
        _end_group(child)
    return _ending(child.returncode)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _ending(status: int) -> str:
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
