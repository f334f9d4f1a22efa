"""The bound is held to all schedules of tiny worlds, and to every strategy on random ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_worlds import FAMILY, FAST, option, setting

from scanflow_serve.policies.errors import MissingExtraError
from scanflow_serve.runtime.scheduler.jobs import Option
from scanflow_serve.runtime.simulation import optimum as optimum_module
from scanflow_serve.runtime.simulation.arrivals import Arrival, drawn, parse
from scanflow_serve.runtime.simulation.baselines import Setting
from scanflow_serve.runtime.simulation.comparison import runs
from scanflow_serve.runtime.simulation.optimum import optimum
from scanflow_serve.runtime.simulation.world import Machine

GOOD = option("good", 1.0, 3.0, 0.9, spread=1.0)
QUICK = option("quick", 0.5, 1.0, 0.5, spread=1.0)
WIDE = option("wide", 0.5, 1.5, 0.7, threads=2, spread=1.0)
ROUNDING = 1e-6  # of the solver


def splits(members: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield all ways to put *members* into ordered batches, and to leave some out."""
    yield ()
    for mask in range(1, 1 << len(members)):
        batch = tuple(m for bit, m in enumerate(members) if mask >> bit & 1)
        rest = tuple(m for m in members if m not in batch)
        for others in splits(rest):
            yield (batch, *others)


def best_schedule(arrivals: Sequence[Arrival], world: Setting) -> float:
    """Return the best effective accuracy of all schedules, by trying each."""
    return max(
        best_from(arrivals, world, batches, [0.0] * world.cores)
        for batches in splits(tuple(range(len(arrivals))))
    ) / len(arrivals)


def best_from(
    arrivals: Sequence[Arrival], world: Setting, batches: Sequence[Sequence[int]], free: list[float]
) -> float:
    if not batches:
        return 0.0
    batch, rest = [arrivals[index] for index in batches[0]], batches[1:]
    best = 0.0
    for each in world.options:
        threads = min(each.threads, world.cores)
        cores = sorted(free)
        start = max(cores[threads - 1], *(arrival.at for arrival in batch))
        end = start + each.curve.p50_ms(sum(arrival.rows for arrival in batch)) / 1000
        in_time = sum(
            end <= a.at + (a.deadline_ms or world.deadline_s * 1000) / 1000 for a in batch
        )
        then = best_from(arrivals, world, rest, [end] * threads + cores[threads:])
        best = max(best, (each.accuracy or 0.0) * in_time + then)
    return best


TINY = st.lists(
    st.builds(
        Arrival,
        st.integers(0, 8).map(lambda ms: ms / 1000),
        rows=st.integers(1, 2),
        deadline_ms=st.integers(1, 12).map(float),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(
    TINY,
    st.sampled_from([(GOOD, QUICK), (GOOD, WIDE), (GOOD, QUICK, WIDE)]),
    st.integers(1, 2),
    st.sampled_from([3, 2000]),
)
def test_no_schedule_of_a_tiny_world_exceeds_the_optimum(
    arrivals: list[Arrival], options: tuple[Option, ...], cores: int, slices: int
) -> None:
    world = setting(options, cores=cores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimum_module, "MOST_SLICES", slices)  # coarse ones bound as well
        bound = optimum(arrivals, world, overhead_ms=0.0)
    assert best_schedule(arrivals, world) <= bound + ROUNDING


def test_optimum_is_reached_where_nothing_has_to_be_relaxed() -> None:
    """A row costs 2 ms in whatever batch: one core has time for both on one variant each."""
    good = option("good", 0.0, 4.0, 0.9, spread=1.0)
    quick = option("quick", 0.0, 2.0, 0.5, spread=1.0)
    world = setting((good, quick), cores=1)
    arrivals = [Arrival(0.0, deadline_ms=6.0), Arrival(0.0, deadline_ms=6.0)]
    assert optimum(arrivals, world, 0.0) == pytest.approx((0.9 + 0.5) / 2)
    assert best_schedule(arrivals, world) == pytest.approx((0.9 + 0.5) / 2)


def test_work_beside_inference_lowers_the_optimum() -> None:
    world = setting((option("only", 0.0, 2.0, 0.9, spread=1.0),), cores=1)
    arrivals = [Arrival(0.0, deadline_ms=4.0), Arrival(0.0, deadline_ms=4.0)]
    assert optimum(arrivals, world, overhead_ms=0.0) == pytest.approx(0.9)
    assert optimum(arrivals, world, overhead_ms=2.0) == pytest.approx(0.45)


def test_contention_lowers_the_optimum_of_a_busy_host() -> None:
    """Two cores, two requests, 3 ms: at once both take 4 ms, one after the other 2 ms each."""
    arrivals = [Arrival(0.0, deadline_ms=3.0), Arrival(0.0, deadline_ms=3.0)]
    free = option("free", 0.0, 2.0, 0.9, spread=1.0)
    slowed = option("slowed", 0.0, 2.0, 0.9, spread=1.0, contention=2.0)
    assert optimum(arrivals, setting((free,)), 0.0) == pytest.approx(0.9)
    assert optimum(arrivals, setting((slowed,)), 0.0) == pytest.approx(0.9 * 1.5 / 2)


def test_optimum_is_the_best_variant_s_accuracy_where_there_is_time() -> None:
    arrivals = drawn(parse("poisson:rate=5,seconds=20"), 1)
    assert optimum(arrivals, setting(), 0.2) == pytest.approx(0.99)


def test_optimum_is_nothing_where_nothing_can_be_in_time() -> None:
    assert optimum([Arrival(0.0, deadline_ms=0.5)], setting(), 0.0) == 0.0


def test_optimum_past_saturation_is_what_the_cores_have_time_for() -> None:
    arrivals = drawn(parse("poisson:rate=5000,seconds=4"), 1)
    per_second = 2 / ((1.0 / 32 + 1.5) / 1000)
    expected = per_second * 4.1 * 0.92 / len(arrivals)  # the last come 100 ms before they are due
    assert optimum(arrivals, setting((FAST,)), 0.0) == pytest.approx(expected, rel=0.01)


LOADS = st.one_of(
    st.builds("poisson:rate={},seconds=1".format, st.integers(5, 800)),
    st.builds("gamma:rate={},cv2={},seconds=1".format, st.integers(20, 500), st.integers(1, 9)),
    st.builds("step:low=20,high={},at=0.5,seconds=1".format, st.integers(50, 800)),
)


@settings(max_examples=25, deadline=None)
@given(LOADS, st.integers(1, 3), st.integers(20, 300), st.floats(0, 1), st.integers(0, 9))
def test_no_strategy_exceeds_the_optimum(
    load: str, cores: int, deadline_ms: int, overhead_ms: float, seed: int
) -> None:
    steady = tuple(
        option(each.variant, call_ms, row_ms, each.accuracy, spread=1.0)
        for each, call_ms, row_ms in zip(FAMILY, (3.0, 2.0, 1.0), (16.0, 4.0, 1.5), strict=True)
    )
    world = setting(steady, cores=cores, deadline_s=deadline_ms / 1000)
    arrivals = drawn(parse(load), seed)
    bound = optimum(arrivals, world, overhead_ms)
    for run in runs(arrivals, world, Machine(cores, overhead_ms), seed=seed, compare=True):
        assert run.result.effective_accuracy <= bound + ROUNDING, run.result.strategy


def test_optimum_without_scipy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'scanflow-serve\[simulate\]'"):
        optimum([Arrival(0.0)], setting(), 0.0)
