from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_worlds import FAMILY, FAST, SLOW, option, setting

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler.jobs import Batch, Job
from scanflow_serve.runtime.simulation.arrivals import Arrival, drawn, parse
from scanflow_serve.runtime.simulation.baselines import (
    Setting,
    SlackOnly,
    rate_thresholds,
    scheduler,
)
from scanflow_serve.runtime.simulation.strategy import Strategy
from scanflow_serve.runtime.simulation.world import Log, Machine, replay

STRATEGIES = {"ours": scheduler, "slack only": SlackOnly, "rate thresholds": rate_thresholds}
STEADY = option("steady", 4.0, 6.0, 0.9, spread=1.0)


def run(
    arrivals: list[Arrival],
    world: Setting,
    strategy: Strategy | None = None,
    *,
    machine: Machine | None = None,
    seed: int = 0,
) -> Log:
    return replay(
        arrivals,
        strategy or scheduler(world),
        machine or Machine(world.cores, overhead_ms=0.0),
        lane=world.lane,
        deadline_s=world.deadline_s,
        seed=seed,
    )


def test_lone_request_takes_its_call_and_its_overhead() -> None:
    log = run([Arrival(1.0)], setting((STEADY,)), machine=Machine(2, overhead_ms=3.0))
    assert log.outcomes[0].latency_s == pytest.approx(0.013)
    assert log.outcomes[0].option is STEADY
    assert log.outcomes[0].end == "in_time"


def test_two_calls_at_once_don_t_slow_each_other_down_on_two_cores() -> None:
    log = run([Arrival(1.0), Arrival(1.0)], setting((STEADY,)))
    assert [each.latency_s for each in log.outcomes] == pytest.approx([0.010, 0.010])
    assert log.batches == [1, 1]


def test_calls_side_by_side_slow_each_other_down_by_their_contention() -> None:
    """Until 4 ms the first is alone; 6 ms of it are left, at half the speed; the second then has
    half its work left, alone.
    """
    contended = option("contended", 4.0, 6.0, 0.9, spread=1.0, contention=2.0)
    log = run([Arrival(0.0), Arrival(0.004)], setting((contended,), deadline_s=1.0))
    assert [each.latency_s for each in log.outcomes] == pytest.approx([0.016, 0.016])


def test_work_of_the_event_loop_slows_calls_down_where_all_cores_are_busy() -> None:
    """One core: 10 ms of a call and 6 ms of reading the next request share it."""
    world = setting((STEADY,), cores=1, deadline_s=10.0)
    machine = Machine(1, overhead_ms=12.0)
    log = run([Arrival(0.0), Arrival(0.006)], world, machine=machine)
    # The call begins at 6 ms; until 18 ms it and the reading have half the core each; 4 ms of it
    # are left then, and end at 22 ms; the first answer is written beside the second call.
    assert log.outcomes[0].latency_s == pytest.approx(0.022 + 0.012)
    assert log.outcomes[1].latency_s == pytest.approx(0.022 + 0.010 + 0.006 + 0.006 - 0.006)


def test_short_calls_run_on_the_event_loop_one_after_the_other() -> None:
    short = option("short", 0.4, 0.1, 0.9, spread=1.0)
    log = run([Arrival(1.0), Arrival(1.0)], setting((short,)))
    assert [each.latency_s for each in log.outcomes] == pytest.approx([0.0005, 0.001])


def test_what_comes_during_a_short_call_goes_together_after_it() -> None:
    short = option("short", 0.4, 0.1, 0.9, spread=1.0)
    log = run([Arrival(1.0), Arrival(1.0001), Arrival(1.0002)], setting((short,)))
    assert log.batches == [1, 2]
    ends = [each.arrival.at + each.latency_s for each in log.outcomes]
    assert ends == pytest.approx([1.0005, 1.0011, 1.0011])


def test_answer_after_its_deadline_is_late() -> None:
    world = setting((STEADY,), deadline_s=0.012)
    assert run([Arrival(1.0)], world).outcomes[0].end == "in_time"
    late = run([Arrival(1.0)], world, machine=Machine(2, overhead_ms=4.0)).outcomes[0]
    assert (late.end, late.option) == ("late", STEADY)


def test_deadline_and_priority_of_a_request_prevail_over_the_policy_s() -> None:
    impossible = Arrival(1.0, deadline_ms=5.0)
    log = run([impossible, Arrival(1.0, deadline_ms=500.0)], setting((STEADY,)))
    assert [each.end for each in log.outcomes] == ["refused", "in_time"]
    waiting = [Arrival(0.0), Arrival(0.001), Arrival(0.002, priority=-1)]
    small = setting((STEADY,), cores=1, max_batch=1, deadline_s=1.0)
    log = run(waiting, small)
    assert log.outcomes[2].latency_s < log.outcomes[1].latency_s


@pytest.mark.parametrize("name", STRATEGIES)
def test_same_seed_is_the_same_run(name: str) -> None:
    arrivals = drawn(parse("gamma:rate=300,cv2=4,seconds=3"), 1)
    world = setting()
    runs = [run(arrivals, world, STRATEGIES[name](world), seed=seed) for seed in (5, 5, 6)]
    assert runs[0].outcomes == runs[1].outcomes
    assert runs[0].outcomes != runs[2].outcomes


@pytest.mark.parametrize("alone", FAMILY, ids=lambda each: each.variant)
def test_each_variant_alone_never_misses_at_low_load(alone: object) -> None:
    world = setting()
    only = world.only(next(each for each in FAMILY if each is alone))
    arrivals = drawn(parse("poisson:rate=2,seconds=60"), 1)
    assert Counter(each.end for each in run(arrivals, only).outcomes) == {"in_time": len(arrivals)}


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        st.floats(0, 0.5),
        rows=st.integers(1, 40),
        client=st.sampled_from(["", "a", "b"]),
        deadline_ms=st.one_of(st.none(), st.floats(0.1, 300)),
        priority=st.integers(-1, 1),
    ),
    min_size=1,
    max_size=60,
).map(lambda found: sorted(found, key=lambda each: each.at))


@settings(max_examples=60, deadline=None)
@given(
    ARRIVALS,
    st.sampled_from(sorted(STRATEGIES)),
    st.integers(1, 4),
    st.integers(1, 20),
    st.floats(0, 5),
    st.integers(0, 3),
)
def test_every_request_ends_exactly_once(
    arrivals: list[Arrival], name: str, cores: int, max_queue: int, overhead_ms: float, seed: int
) -> None:
    world = setting((SLOW, option("wide", 1.0, 1.0, 0.95, threads=3), FAST), cores=cores)
    strategy = STRATEGIES[name](world)
    log = run(arrivals, world, strategy, machine=Machine(cores, overhead_ms), seed=seed)
    ends = Counter(each.end for each in log.outcomes)
    assert [each.arrival for each in log.outcomes] == arrivals
    assert ends.total() == len(arrivals)
    answered = [each for each in log.outcomes if each.option is not None]
    assert len(answered) == ends["in_time"] + ends["late"]
    assert sum(log.batches) == sum(each.arrival.rows for each in answered)
    assert all(each.latency_s >= 0 for each in log.outcomes)
    assert strategy.dropped == []


def test_strategy_that_answers_twice_is_found_out() -> None:
    class Stutter:
        def __init__(self) -> None:
            self.dropped: list[tuple[Job, RequestError]] = []

        def submit(self, job: Job, now: float) -> Batch:
            return Batch("digits", STEADY, [job, job], 2, now, 1.0)

        def hold(self, job: Job, now: float) -> None: ...
        def next(self, now: float) -> None: ...
        def done(self, batch: Batch, now: float, took_ms: float) -> None: ...
        def tick(self, now: float) -> None: ...

    with pytest.raises(ValueError, match=r"request 0: must end once, got 'in_time' after"):
        run([Arrival(0.0), Arrival(9.0)], setting((STEADY,)), Stutter())
