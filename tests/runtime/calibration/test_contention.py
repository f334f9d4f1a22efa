"""Calls side by side, on a clock that every thread has for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from scanflow_serve.runtime.calibration import contention
from scanflow_serve.runtime.calibration.contention import (
    least_s,
    measure_contention,
    measure_window,
)


class ThreadClock(threading.local):
    """Seconds that pass only while something runs on the thread."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, alone_s: float, crowded_s: float) -> Callable[[], None]:
        """A call that takes *alone_s* on this thread, *crowded_s* on any other."""
        here = threading.get_ident()

        def call() -> None:
            self.now += alone_s if threading.get_ident() == here else crowded_s

        return call


def test_one_caller_is_timed_on_its_own_thread() -> None:
    clock = ThreadClock()
    window = measure_window(clock.taking(0.010, 9.0), 1, 1.0, clock)
    assert len(window.took_s) == pytest.approx(100, abs=1)
    assert window.elapsed_s == pytest.approx(1.0, abs=0.02)


def test_callers_run_side_by_side() -> None:
    clock = ThreadClock()
    window = measure_window(clock.taking(9.0, 0.020), 3, 1.0, clock)
    assert len(window.took_s) == pytest.approx(150, abs=3)
    assert window.elapsed_s == pytest.approx(1.0, abs=0.03)


def test_calls_longer_than_the_window_are_made_twice() -> None:
    clock = ThreadClock()
    assert measure_window(clock.taking(5.0, 5.0), 1, 1.0, clock).took_s == pytest.approx([5.0, 5.0])


def test_contention_is_what_company_adds_to_a_call() -> None:
    clock = ThreadClock()
    assert measure_contention(clock.taking(0.020, 0.023), 2, 0.5, clock) == pytest.approx(1.15)


@pytest.mark.parametrize(("crowded_s", "factor"), [(0.019, 1.0), (0.090, 2.0)])
def test_contention_lies_between_none_and_taking_turns(crowded_s: float, factor: float) -> None:
    clock = ThreadClock()
    assert measure_contention(clock.taking(0.020, crowded_s), 2, 0.5, clock) == factor


def test_call_that_takes_all_cores_has_no_company() -> None:
    clock = ThreadClock()
    assert measure_contention(clock.taking(0.020, 9.0), 1, 0.5, clock) == 1.0
    assert clock.now == 0.0


def test_least_time_is_that_of_the_fewest_calls() -> None:
    clock = ThreadClock()
    measure_contention(clock.taking(5.0, 5.0), 2, 0.5, clock)
    assert 2 * clock.now == pytest.approx(least_s(5.0))


def test_failure_of_a_caller_is_raised() -> None:
    def call() -> None:
        raise ValueError("no such row")

    with pytest.raises(ValueError, match="no such row"):
        measure_window(call, 2, 0.1)


def test_neighbour_in_some_rounds_is_no_contention() -> None:
    clock = ThreadClock()
    here, rounds = threading.get_ident(), iter([1.0, 1.0, 3.0, 1.5, 2.0, 3.0])

    class Disturbed:
        factor = 1.0

        def __call__(self) -> None:
            clock.now += 0.020 * self.factor * (1.0 if threading.get_ident() == here else 1.1)

    call = Disturbed()

    def window_clock() -> float:
        return clock.now

    begun = measure_window

    def disturbed(*arguments: object) -> object:
        call.factor = next(rounds)
        return begun(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contention, "measure_window", disturbed)
        assert measure_contention(call, 2, 0.2, window_clock) == pytest.approx(1.1)
