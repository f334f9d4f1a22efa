"""One holder at a time, although the lock's file is removed by whoever frees it."""

from __future__ import annotations

import fcntl
import logging
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from scanflow_serve.runtime.file_lock import locked


def test_lock_is_held_by_one_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        with locked(path, wait=False) as mine, locked(path, wait=False) as also:
            assert (mine, also) == (True, False)
        assert not path.exists()


def test_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="inside"), locked(tmp_path / "lock"):
        raise ZeroDivisionError("inside")
    with locked(tmp_path / "lock", wait=False) as mine:
        assert mine


def test_who_waits_gets_the_lock_when_its_holder_frees_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    order: list[str] = []

    def wait() -> None:
        with locked(tmp_path / "lock") as mine:
            order.append(f"second {mine}")

    waiter = Thread(target=wait)
    with locked(tmp_path / "lock"):
        waiter.start()
        while "waits for the process that holds it" not in caplog.text:
            waiter.join(0.01)
        order.append("first")
    waiter.join()
    assert order == ["first", "second True"]


def test_file_that_its_holder_removed_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, it is freed, and locked by a third."""
    path = tmp_path / "lock"
    first, third = ExitStack(), ExitStack()
    first.enter_context(locked(path))
    flock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.close()
        assert third.enter_context(locked(path, wait=False))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with third, locked(path, wait=False) as mine:
        assert mine is False
