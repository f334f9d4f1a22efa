from __future__ import annotations

import threading

import numpy as np
import pytest

from scanflow_serve.runtime.checks.isolation import (
    Bench,
    GrowthError,
    HangError,
    kept_bytes,
    require_bounded,
)


def test_call_returns_what_the_function_returns() -> None:
    bench = Bench()
    assert bench.call(divmod, 7, 2) == (3, 1)
    assert bench.call(threading.current_thread) is not threading.current_thread()
    bench.close()


def test_what_a_check_raises_comes_back_and_the_thread_goes_on() -> None:
    bench = Bench()
    with pytest.raises(ZeroDivisionError, match="division"):
        bench.call(lambda: 1 / 0)
    with pytest.raises(SystemExit, match="4"):
        bench.call(lambda: exit(4))
    assert bench.call(lambda: 5) == 5
    assert bench.abandoned == 0
    bench.close()


def test_call_that_hangs_is_left_behind_and_the_next_one_runs() -> None:
    bench, release = Bench(), threading.Event()
    with pytest.raises(HangError, match=r"took longer than 0\.05 s"):
        bench.call(release.wait, limit_s=0.05)
    assert bench.call(lambda: "well") == "well"
    assert bench.abandoned == 1
    release.set()
    bench.close()


class Hoard:
    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []


def test_growth_is_seen_wherever_a_check_keeps_it() -> None:
    hoard = Hoard()
    require_bounded(hoard, 1 << 20)
    hoard.rows = [np.zeros(1000) for _ in range(300)]
    with pytest.raises(GrowthError, match="keeps more than 1 MiB"):
        require_bounded(hoard, 1 << 20)


def test_shared_things_do_not_count() -> None:
    hoard = Hoard()
    before = kept_bytes(hoard)
    hoard.rows = [np]  # type: ignore[list-item]
    assert kept_bytes(hoard) - before < 1000
