"""The supervisor's promises, with small programs in the worker's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scanflow_serve.serving.launch import Launch

# Runs the supervisor with another program as its worker.
SUPERVISE = """
import sys
from scanflow_serve.serving import child, supervisor
from scanflow_serve.serving.launch import Launch
supervisor.EXTRA_S = 0.2
child.WORKER = [sys.executable, "-c", sys.argv[2], sys.argv[3]]
sys.exit(supervisor.Supervisor(Launch.parse(sys.argv[1])).run())
"""
# Each worker appends a letter to the log, then behaves as the log's length says.
PRELUDE = """
import os, signal, sys, time
log, told = sys.argv[1], int(sys.argv[-1])
with open(log, "a") as file: file.write("w")
starts = os.path.getsize(log)
ready = lambda: os.write(told, b"1")
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def supervise(worker: str, log: Path, *, grace_s: float = 5.0) -> subprocess.Popen[str]:
    start = Launch("bentoml", "digits", str(log.parent), "http://127.0.0.1:1", -1, -1, grace_s)
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, start.dump(), PRELUDE + worker, str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_worker_that_crashed_is_replaced(log: Path) -> None:
    process = supervise(
        """
ready()
if starts < 3: os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("third", flush=True)
time.sleep(60)
""",
        log,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "third\n"
    process.terminate()
    code, _, err = end(process)
    assert code == 0
    assert log.read_text() == "www"
    assert err.count("the worker died (-9); starting another") == 2


def test_worker_that_never_gets_ready_is_not_repeated(log: Path) -> None:
    code, _, err = end(supervise("sys.exit(3)", log))
    assert code == 1
    assert log.read_text() == "w"
    assert "the worker ended with 3 before it was ready" in err


def test_supervisor_gives_up_on_a_worker_that_no_longer_starts(log: Path) -> None:
    code, _, err = end(supervise("if starts == 1: ready()\nsys.exit(4)", log))
    assert code == 1
    assert log.read_text() == "w" * 6
    assert "giving up" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_is_told_to_end_gracefully(log: Path, number: signal.Signals) -> None:
    process = supervise(
        """
def leave(*_):
    print("in flight finished", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
ready()
print("up", flush=True)
time.sleep(60)
""",
        log,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.kill(process.pid, number)
    code, out, _ = end(process)
    assert (code, out) == (0, "in flight finished\n")


STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready()
print("up", flush=True)
time.sleep(60)
"""


def test_worker_that_outstays_its_grace_is_killed(log: Path) -> None:
    process = supervise(STUBBORN, log, grace_s=0.1)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    code, _, _ = end(process)
    assert code == 1


def test_second_signal_does_not_wait(log: Path) -> None:
    process = supervise(STUBBORN, log, grace_s=3600)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    process.send_signal(signal.SIGINT)
    code, _, _ = end(process)
    assert code == 1
