from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from scanflow_serve.runtime.calibration import benchmark
from scanflow_serve.runtime.calibration.benchmark import Effort
from scanflow_serve.runtime.measurements import Latency

PATIENT = Effort(slice_s=3.0, limit_s=60.0, give_up_ms=1000.0, window_s=1.0)


class FakeClock:
    """Seconds that pass only while something runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        """A call that takes each of *seconds* in turn, over and over."""
        turn = 0

        def call() -> None:
            nonlocal turn
            self.now += seconds[turn % len(seconds)]
            turn += 1

        return call


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [(1, (1,)), (2, (1, 2)), (32, (1, 2, 4, 8, 16, 32)), (33, (1, 2, 4, 8, 16, 32, 33))],
)
def test_batch_sizes_double_up_to_the_largest(max_batch: int, sizes: tuple[int, ...]) -> None:
    assert benchmark.batch_sizes(max_batch) == sizes


def test_latency_is_that_of_the_call() -> None:
    clock = FakeClock()
    calls = {1: clock.taking(0.010), 2: clock.taking(0.015)}
    latency = benchmark.measure_latency(calls, PATIENT, clock)
    assert latency[1].p50_ms == pytest.approx(10)
    assert latency[2].p95_ms == pytest.approx(15)


def test_a_slow_first_call_is_warm_up() -> None:
    clock = FakeClock()
    slow_first = iter([0.5])
    steady = clock.taking(0.010)

    def call() -> None:
        clock.now += next(slow_first, 0.0)
        steady()

    assert benchmark.measure_latency({1: call}, PATIENT, clock)[1].p95_ms == pytest.approx(10)


def test_one_disturbed_round_does_not_move_the_p95() -> None:
    clock = FakeClock()

    def call() -> None:
        clock.now += 0.100 if 1.0 < clock.now < 2.0 else 0.010

    assert benchmark.measure_latency({1: call}, PATIENT, clock)[1].p95_ms == pytest.approx(10)


def test_p95_shows_a_slow_tenth_of_the_calls() -> None:
    clock = FakeClock()
    call = clock.taking(*[0.001] * 9, 0.020)
    latency = benchmark.measure_latency({1: call}, PATIENT, clock)[1]
    assert latency.p50_ms == pytest.approx(1)
    assert latency.p95_ms == pytest.approx(20)


def test_batches_slower_than_any_deadline_are_left_out() -> None:
    clock = FakeClock()
    calls = {1: clock.taking(0.010), 2: clock.taking(1.5), 4: clock.taking(0.001)}
    assert list(benchmark.measure_latency(calls, PATIENT, clock)) == [1]


def test_smallest_batch_is_measured_however_slow() -> None:
    clock = FakeClock()
    calls = {1: clock.taking(90.0), 2: clock.taking(180.0)}
    assert benchmark.measure_latency(calls, PATIENT, clock)[1].p50_ms == pytest.approx(90_000)


def test_batches_that_would_overspend_the_share_are_left_out() -> None:
    clock = FakeClock()
    effort = Effort(slice_s=0.3, limit_s=2.0, give_up_ms=1e6, window_s=0.1)
    calls = {1: clock.taking(0.1), 2: clock.taking(0.9), 4: clock.taking(1.7)}
    assert list(benchmark.measure_latency(calls, effort, clock)) == [1]


def test_samples_fill_the_slice() -> None:
    clock = FakeClock()
    latency = benchmark.measure_latency({1: clock.taking(0.010)}, PATIENT, clock)
    assert latency[1].samples == pytest.approx(300, abs=3)


def test_best_batch_has_the_most_rows_per_second() -> None:
    latency = {1: Latency(1, 1, 9), 8: Latency(2, 2, 9), 32: Latency(16, 16, 9)}
    assert benchmark.best_batch(latency) == 8


def test_smaller_of_equally_good_batches_is_best() -> None:
    assert benchmark.best_batch({1: Latency(1, 1, 9), 2: Latency(2, 2, 9)}) == 1


def test_garbage_collector_rests_while_timing_and_not_after() -> None:
    seen = []
    clock = FakeClock()
    tick = clock.taking(0.1)

    def call() -> None:
        seen.append(gc.isenabled())
        tick()

    benchmark.measure_latency({1: call}, PATIENT, clock)
    assert set(seen) == {False}
    assert gc.isenabled()
