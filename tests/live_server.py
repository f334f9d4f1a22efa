"""Starts the real server as a process, waits until it is ready, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CONSOLE_SCRIPT = Path(sys.executable).with_name("scanflow-serve")
LIMIT_S = 180.0  # a first start measures every candidate, on a machine that may be busy
UNCHECKED = ssl._create_unverified_context()  # the certificates of tests are self-signed


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: The parent; for `serve: {server: uvicorn}` the server itself.
        log: What it wrote to stdout and stderr.
    """

    url: str
    process: subprocess.Popen[bytes]
    state: Path
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def get(self, path: str) -> Any:
        """Return the JSON that GET *path* answers."""
        return json.loads(fetch(f"{self.url}{path}"))

    def predict(self, inputs: Any, **settings: Any) -> Any:
        """Return the JSON that POST /predict answers."""
        body = json.dumps({"inputs": inputs}).encode()
        headers = {"Content-Type": "application/json"}
        return json.loads(fetch(f"{self.url}/predict", body, headers, **settings))


def fetch(
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 60.0,
) -> bytes:
    """Return the body of a reply with status 200."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=timeout_s, context=UNCHECKED) as reply:
        return bytes(reply.read())


def is_ready(url: str) -> bool:
    try:
        fetch(f"{url}/v2/health/ready", timeout_s=10.0)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


@contextmanager
def server(
    policy: Path,
    *arguments: str,
    state: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run ``scanflow-serve run POLICY --port 0 ARGUMENTS`` until the block ends.

    Args:
        state: The state folder; default: ``state`` beside the policy.
        environ: Beside this process's environment; a cache shared between tests belongs here.
    """
    state = state or policy.parent / "state"
    command = [str(CONSOLE_SCRIPT), "run", str(policy), "--port", "0", "--state", str(state)]
    with running([*command, *arguments], state, environ) as process:
        log = state / "log"
        url = wait_until(lambda: announced(process, state), process, log)
        wait_until(lambda: is_ready(url), process, log)
        yield Server(url, process, state, log)


@contextmanager
def running(
    command: list[str], folder: Path, environ: Mapping[str, str] | None, **settings: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* until the block ends, its output in ``folder/log``; show it at failure."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | dict(environ or {}),
            **settings,
        )
    try:
        yield process
    except BaseException:
        print(f"--- {' '.join(command)} wrote:\n{log.read_text(errors='replace')}---")
        raise
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop the process and all that it started."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def announced(process: subprocess.Popen[bytes], state: Path) -> str:
    """Return the URL that *process* announced in ``server.json``, "" if it has not yet."""
    with suppress(FileNotFoundError):
        record = json.loads((state / "server.json").read_text())
        if record["pid"] == process.pid:
            return str(record["url"])
    return ""


def wait_until(condition: Any, process: subprocess.Popen[bytes] | None, log: Path) -> Any:
    """Return what *condition* returns once that is true."""
    until = time.monotonic() + LIMIT_S
    while not (found := condition()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}:\n{log.read_text()}")
        if time.monotonic() > until:
            raise AssertionError(f"not so after {LIMIT_S:g} s:\n{log.read_text()}")
        time.sleep(0.02)
    return found
