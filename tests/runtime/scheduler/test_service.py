"""What clients get: deadlines, shares, priorities, and the option that load allows."""

from __future__ import annotations

import pytest
from scheduler_worlds import BEST, FAMILY, FAST, GOOD, job, option, poisson, replay, scheduler

from scanflow_serve.policies.errors import RequestError

# `FAST` costs 49/32 ms a row in full calls: two cores answer 1,300 rows/s.
CAPACITY = 1300.0


def test_request_with_time_gets_the_best_option_at_once() -> None:
    batch = scheduler().submit(job(0.0), 0.0)
    assert batch is not None
    assert (batch.option, batch.rows, batch.attempt) == (BEST, 1, 1)


def test_request_with_little_time_gets_the_best_option_that_meets_it() -> None:
    batch = scheduler().submit(job(0.0, deadline_s=0.01), 0.0)
    assert batch is not None
    assert batch.option is GOOD


def test_request_that_the_fastest_cannot_meet_is_refused_at_once() -> None:
    core = scheduler()
    with pytest.raises(RequestError, match=r"deadline can't be met: 0 ms of queue and 3 ms") as at:
        core.submit(job(0.0, deadline_s=0.002), 0.0)
    assert at.value.status == 504
    assert at.value.retry_after_s is not None
    assert core.idle


def test_request_behind_work_that_fills_its_deadline_is_refused_at_once() -> None:
    core = scheduler((FAST,), cores=1)
    core.submit(job(0.0), 0.0)
    for _ in range(2):  # 3 and 86 ms: no call of the usual size fits behind
        core.submit(job(0.0, rows=28), 0.0)
    with pytest.raises(RequestError, match="deadline can't be met") as refusal:
        core.submit(job(0.0), 0.0)
    assert refusal.value.status == 504
    assert not core.dropped


def test_full_queue_refuses_the_client_that_fills_it() -> None:
    core = scheduler(max_queue=4, deadline_s=10)
    for _ in range(6):  # two of them run
        core.submit(job(0.0, 10), 0.0)
    with pytest.raises(RequestError, match=r"scheduling\.max_queue is 4") as refusal:
        core.submit(job(0.0, 10), 0.0)
    assert refusal.value.status == 503


def test_full_queue_makes_room_for_another_client() -> None:
    core = scheduler(max_queue=4, deadline_s=10)
    for _ in range(6):
        core.submit(job(0.0, 10), 0.0)
    core.submit(job(0.0, 10, client="other"), 0.0)
    ((victim, refusal),) = core.dropped
    assert (victim.client, refusal.status, core.queued) == ("", 503, 4)


def test_unknown_lane_is_refused() -> None:
    with pytest.raises(RequestError, match="'x' was unloaded") as refusal:
        scheduler().submit(job(0.0, lane="x"), 0.0)
    assert refusal.value.status == 503


def test_waiting_jobs_of_a_closed_lane_are_told_so() -> None:
    core = scheduler(cores=1)
    core.submit(job(0.0), 0.0)
    core.submit(job(0.0), 0.0)
    core.carry("p", (), 0.0, reason="unloaded", why="asked to")
    ((_, refusal),) = core.dropped
    assert refusal.status == 503
    assert core.queued == 0


def test_more_urgent_priority_runs_first() -> None:
    core = scheduler((FAST,), cores=1)
    running = core.submit(job(0.0), 0.0)
    core.submit(job(0.0, rows=30, priority=1), 0.0)
    urgent = job(0.0, rows=30)
    core.submit(urgent, 0.0)
    assert running is not None
    core.done(running, 0.003, 3.0)
    batch = core.next(0.003)
    assert batch is not None
    assert batch.jobs == [urgent]


def test_waiting_requests_share_a_call_and_idle_cores_share_the_requests() -> None:
    core = scheduler((FAST,), cores=2)
    for _ in range(8):
        core.hold(job(0.0), 0.0)
    first, second = core.next(0.0), core.next(0.0)
    assert first is not None
    assert second is not None
    assert (first.rows, second.rows) == (4, 4)


def test_option_of_several_threads_waits_for_cores_where_deadlines_allow() -> None:
    wide = option("wide", 0.99, 4, 10, threads=2)
    core = scheduler((wide, FAST))
    narrow = core.submit(job(0.0, deadline_s=0.01), 0.0)
    assert narrow is not None
    assert narrow.option is FAST
    assert core.submit(job(0.0), 0.0) is None, "the idle core is kept for it"
    core.done(narrow, 0.0025, 2.5)
    batch = core.next(0.0025)
    assert batch is not None
    assert batch.option is wide


def test_overdue_call_still_keeps_its_cores() -> None:
    wide = option("wide", 0.99, 4, 10, threads=2)
    core = scheduler((wide, FAST), deadline_s=1)
    narrow = core.submit(job(0.0, deadline_s=0.01), 0.0)
    assert narrow is not None
    assert core.submit(job(0.5, 1), 0.5) is None  # 0.5 s late by now
    assert core._cores.free == 1


@pytest.mark.parametrize("flood", [{}, {"deadline_s": 0.03}, {"deadline_s": 0.5}, {"rows": 16}])
def test_client_that_floods_cannot_starve_another(flood: dict[str, float]) -> None:
    core = scheduler()
    rows = int(flood.get("rows", 1))
    rate = 5 * CAPACITY / rows
    jobs = [job(at, client="flood", **flood) for at in poisson(rate, 3, 1)]  # type: ignore[arg-type]
    jobs += [job(at, client="honest") for at in poisson(0.1 * CAPACITY, 3, 2)]
    outcome = replay(core, jobs)
    assert outcome.served("honest") >= 0.95
    assert outcome.served("flood") * 5 * CAPACITY >= 0.7 * CAPACITY


def test_flood_of_urgent_priority_takes_no_more_than_its_share() -> None:
    core = scheduler()
    jobs = [job(at, client="flood", priority=-1) for at in poisson(5 * CAPACITY, 3, 1)]
    jobs += [job(at, client="honest", priority=3) for at in poisson(0.1 * CAPACITY, 3, 2)]
    assert replay(core, jobs).served("honest") >= 0.95


def test_flood_of_one_lane_leaves_another_its_share() -> None:
    core = scheduler()
    core.carry("q", FAMILY, 0.0, reason="loaded", why="test")
    jobs = [job(at, client="x") for at in poisson(5 * CAPACITY, 3, 1)]
    jobs += [job(at, client="x", lane="q") for at in poisson(0.1 * CAPACITY, 3, 2)]
    outcome = replay(core, jobs)
    other = [key for key, each in outcome.jobs.items() if each.lane == "q"]
    assert sum(key in outcome.answered for key in other) >= 0.95 * len(other)


def test_goodput_past_saturation_stays_within_a_twentieth_of_its_peak() -> None:
    good = {
        load: len(replay(scheduler(), [job(at) for at in poisson(load * CAPACITY, 3, 1)]).answered)
        for load in (1.0, 2.0, 5.0)
    }
    assert good[5.0] >= 0.95 * max(good.values())


@pytest.mark.parametrize("rate", [30, 150, 400, 1000])
def test_accuracy_is_spent_before_deadlines(rate: float) -> None:
    arrivals = poisson(rate, 6, 3)
    outcome = replay(scheduler(), [job(at) for at in arrivals])
    late = sum(latency > 0.1 for _, latency in outcome.answered.values())
    assert len(outcome.refused) + late <= 0.005 * len(arrivals)
    ours = sum({"best": 0.99, "good": 0.96, "fast": 0.92}[n] for n, _ in outcome.answered.values())
    for single in FAMILY:
        alone = replay(scheduler((single,)), [job(at) for at in arrivals])
        assert single.accuracy is not None
        assert ours >= len(alone.answered) * single.accuracy - 0.002 * len(arrivals)


def test_two_busy_lanes_share_the_host() -> None:
    core = scheduler()
    core.carry("q", FAMILY, 0.0, reason="loaded", why="test")
    jobs = [job(at, lane=lane) for lane in "pq" for at in poisson(300, 5, ord(lane))]
    outcome = replay(core, jobs)
    assert len(outcome.answered) >= 0.995 * len(jobs)
    for lane in "pq":  # neither plans as if it had the host to itself
        mix = core.lane(lane).mix("objective")
        assert mix is not None
        assert core.lane(lane).order("objective")[mix.upper] is not BEST


def test_slower_host_is_planned_for_without_new_measurements() -> None:
    outcome = replay(
        scheduler(),
        [job(at) for at in poisson(100, 8, 5)],
        slowness=dict.fromkeys(("best", "good", "fast"), 2.0),
    )
    late = sum(latency > 0.1 for _, latency in outcome.answered.values())
    assert len(outcome.refused) + late <= 0.01 * len(outcome.jobs)


def test_short_surge_finds_places_to_wait() -> None:
    core = scheduler(max_queue=64, deadline_s=1)
    jobs = [job(1 + n / 600, 1) for n in range(600)]
    outcome = replay(core, [job(0.5, 1), *jobs])
    assert len(outcome.answered) >= 0.98 * len(outcome.jobs), "deadlines alone would fill it"


def test_ratio_that_refuses_everybody_is_forgotten() -> None:
    core = scheduler((BEST,), deadline_s=0.03)
    batch = core.submit(job(0.0, 0.03), 0.0)
    assert batch is not None
    core.health("best").ratio = 2.0  # a neighbour was noisy once
    core.done(batch, 0.02, 40.0)
    with pytest.raises(RequestError, match="deadline can't be met"):
        core.submit(job(0.1, 0.03), 0.1)
    for tick in range(2, 100):
        core.tick(tick / 10)
    assert core.submit(job(10.0, 0.03), 10.0) is not None


def test_request_that_prefers_latency_gets_the_fastest() -> None:
    batch = scheduler().submit(job(0.0, goal="latency"), 0.0)
    assert batch is not None
    assert batch.option is FAST


def test_company_that_was_measured_is_no_slowness_of_the_variant() -> None:
    """Alone a call takes 20 ms, beside another 30, as its measurement says: the ratio rests."""
    contended = option("contended", 0.9, 10, 10, contention=1.5)
    world = scheduler((contended,), deadline_s=1.0)
    first, second = world.submit(job(0.0, 1.0), 0.0), world.submit(job(0.0, 1.0), 0.0)
    assert first is not None
    assert second is not None
    assert (first.expected_ms, second.expected_ms) == (pytest.approx(20), pytest.approx(30))
    world.done(first, 0.020, 20.0)
    world.done(second, 0.030, 30.0)
    assert world.health("contended").ratio == pytest.approx(1.0)


def test_who_is_turned_away_unread_counts_as_traffic() -> None:
    core = scheduler((FAST,), cores=1)
    for _ in range(35):
        core.submit(job(0.0), 0.0)
    hopeless, least = job(0.0, 0.04), job(0.0, 0.04)
    hopeless.priority = least.priority = 1  # behind all others
    with pytest.raises(RequestError, match=r"deadline can't be met: \d+(\.\d)? ms of") as refused:
        core.submit(hopeless, 0.0)
    with pytest.raises(RequestError, match=r"deadline can't be met: \d+(\.\d)? ms of") as unread:
        core.turn_away(least, 0.0)
    assert unread.value.detail == refused.value.detail
    core.turn_away(job(0.0, 1.0), 0.0)
    core.tick(1.0)
    assert core.traffic.slow == pytest.approx(37)
    assert core.lane("p").rate.slow == pytest.approx(37)
