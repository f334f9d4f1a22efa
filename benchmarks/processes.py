"""Servers as processes: started, waited for, weighed, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: its process with all descendants, and seconds until it was ready."""

    process: subprocess.Popen[bytes]
    url: str
    ready_s: float

    def tree(self) -> list[psutil.Process]:
        """Return the processes that are there now."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the processor seconds that all processes have used."""
        total = 0.0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory_mb(self) -> float:
        """Return resident memory in MiB, pages that processes share counted once (PSS)."""
        total = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / MIB


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    port: int,
    ready: str,
    log: Path,
    cwd: Path,
    environ: Mapping[str, str],
    limit_s: float = 180.0,
) -> Iterator[Running]:
    """Run a server until the block ends; *ready* is the path that answers 200 once it serves.

    Raises:
        RuntimeError: It ended, or was not ready in *limit_s*; the text has the end of its log.
    """
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", **environ}
    start = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        while not _answers(f"{url}{ready}"):
            if process.poll() is not None or time.perf_counter() - start > limit_s:
                end = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{command[0]}: not ready, exit {process.poll()}:\n{end}")
            time.sleep(0.005)
        yield Running(process, url, time.perf_counter() - start)
    finally:
        _stop(process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it left in its session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
