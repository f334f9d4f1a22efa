from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest

from scanflow_serve.runtime.checks.tap import SHARE, Tap
from scanflow_serve.runtime.tensors import Tensors


def put(tap: Tap, rows: int, inputs: Tensors | None = None, variant: str = "m/ort-fp32") -> bool:
    given = {"x": np.zeros((rows, 4), np.float32)} if inputs is None else inputs
    ids = [str(row) for row in range(rows)]
    return tap.put(ids, given, {"y": np.zeros((rows, 2), np.float32)}, "y", "logits", variant)


def test_requests_come_out_in_the_order_they_went_in() -> None:
    tap = Tap()
    for number in range(5):
        assert put(tap, 1, variant=str(number))
    assert [each.variant for each in tap.drain(0)] == ["0", "1", "2", "3", "4"]
    assert tap.waiting_rows == tap.waiting_bytes == 0


def test_full_ring_drops_new_requests_and_counts_them() -> None:
    tap = Tap(most_rows=10)
    assert put(tap, 8)
    assert not put(tap, 3)
    assert put(tap, 2)
    assert (tap.dropped_requests, tap.dropped_rows) == (1, 3)
    assert [len(each.ids) for each in tap.drain(0)] == [8, 2]
    assert put(tap, 3)


def test_ring_is_bounded_in_bytes_too() -> None:
    tap = Tap(most_bytes=1000)
    large = {"x": np.zeros((1, 200), np.float32)}
    assert put(tap, 1, large)
    assert not put(tap, 1, large)
    assert tap.waiting_bytes == 808


def test_arrays_are_handed_over_without_a_copy() -> None:
    tap, inputs = Tap(), {"x": np.ones((1, 4), np.float32)}
    put(tap, 1, inputs)
    assert tap.drain(0)[0].inputs["x"] is inputs["x"]


def test_array_over_a_clients_bytes_outlives_the_request() -> None:
    tap = Tap()

    def request() -> None:
        body = np.arange(4, dtype=np.float32).tobytes()
        put(tap, 1, {"x": np.frombuffer(body, np.float32).reshape(1, 4)})

    request()
    np.testing.assert_array_equal(tap.drain(0)[0].inputs["x"], [[0, 1, 2, 3]])


def test_drain_stops_at_the_request_that_reaches_the_rows_asked_for() -> None:
    tap = Tap()
    for _ in range(4):
        put(tap, 3)
    assert [len(tap.drain(0, most_rows=5)) for _ in range(3)] == [2, 2, 0]


def test_drain_wakes_for_what_comes_and_for_the_end() -> None:
    tap = Tap()
    drained: list[int] = []

    def work() -> None:
        while taken := tap.drain(None):
            drained.append(len(taken))

    thread = threading.Thread(target=work)
    thread.start()
    put(tap, 1)
    while not drained:
        thread.join(0.01)
    tap.close()
    thread.join(10)
    assert not thread.is_alive()
    assert drained == [1]


@dataclass
class Day:
    """A clock that stands still but where somebody pauses or works."""

    now: float = 0.0
    paused: float = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.paused += seconds


def test_longer_looks_gather_longer_so_that_checks_keep_to_their_share() -> None:
    day = Day()
    tap = Tap(clock=lambda: day.now, pause=day.pause)
    gathered = []
    for busy_s in (0.0, 0.004, 10.0):
        day.now += busy_s
        put(tap, 1)
        before = day.paused
        tap.drain(1.0)
        gathered.append(round(day.paused - before, 6))
    assert gathered == [0.02, 0.2, 0.5]
    assert SHARE * gathered[1] == pytest.approx(0.004)


@pytest.mark.parametrize(("rows", "size"), [(64, 4), (1, 3_000_000)])
def test_enough_rows_or_bytes_are_not_kept_waiting(rows: int, size: int) -> None:
    day = Day()
    tap = Tap(clock=lambda: day.now, pause=day.pause)
    put(tap, rows, {"x": np.zeros((rows, size), np.float32)})
    assert len(tap.drain(1.0, most_rows=64)) == 1
    assert day.paused == 0


def test_end_is_not_kept_waiting_by_what_gathers() -> None:
    tap = Tap()
    put(tap, 1)
    tap.close()
    assert len(tap.drain(None)) == 1


def test_nothing_is_lost_between_two_threads() -> None:
    tap = Tap(most_rows=1_000_000)
    seen: list[str] = []
    done = threading.Event()

    def work() -> None:
        while not (done.is_set() and not tap.waiting_rows):
            seen.extend(each.variant for each in tap.drain(0.01))

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(5000):
        put(tap, 1, variant=str(number))
    done.set()
    thread.join(30)
    assert seen == [str(number) for number in range(5000)]
