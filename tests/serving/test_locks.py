"""One live server a state folder, and no memory of dead ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scanflow_serve.policies.errors import StateError
from scanflow_serve.serving.locks import FILE, StateLock

HOLD = """
import sys
from pathlib import Path
from scanflow_serve.serving.locks import StateLock
lock = StateLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is killed or its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_second_server_is_told_the_pid_of_the_first(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    try:
        with pytest.raises(StateError, match=rf"pid {holder.pid}\. .*--state DIR"):
            StateLock.acquire(tmp_path)
    finally:
        end(holder)


def test_lock_of_a_killed_process_is_taken_over(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    end(holder)
    assert (tmp_path / FILE).read_text() == f"{holder.pid}\n"  # stale
    lock = StateLock.acquire(tmp_path)
    assert (tmp_path / FILE).read_text() == f"{os.getpid()}\n"
    lock.release()


def test_released_lock_is_free(tmp_path: Path) -> None:
    StateLock.acquire(tmp_path).release()
    StateLock.acquire(tmp_path).release()


def test_state_folder_is_made(tmp_path: Path) -> None:
    StateLock.acquire(tmp_path / "state" / "digits").release()
    assert (tmp_path / "state" / "digits" / FILE).is_file()


def test_lock_survives_exec_only_when_asked(tmp_path: Path) -> None:
    lock = StateLock.acquire(tmp_path)
    assert not os.get_inheritable(lock.fd)
    lock.survive_exec()
    assert os.get_inheritable(lock.fd)
    lock.release()


def test_unwritable_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"state folder must be writable.*--state DIR"):
        StateLock.acquire(tmp_path / "file" / "state")
