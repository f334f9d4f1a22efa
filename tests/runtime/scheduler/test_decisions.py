"""What is decided and told: pins, rules, rates; and that it does not flap."""

from __future__ import annotations

import pytest
from scheduler_worlds import BEST, FAMILY, FAST, GOOD, job, poisson, replay, scheduler

from scanflow_serve.runtime.scheduler.jobs import Decision
from scanflow_serve.runtime.scheduler.scheduler import Scheduler


def test_first_decision_says_why_the_lane_opened() -> None:
    (decision,) = scheduler().journal.decisions
    assert decision.to_json() == {
        "lane": "p",
        "from": None,
        "to": "best",
        "reason": "start",
        "why": "loaded",
        "figures": {},
    }


def test_decisions_are_told_to_who_listens() -> None:
    told: list[Decision] = []
    core = Scheduler(cores=1, max_queue=8, max_batch=32, deadline_s=0.1, notify=told.append)
    core.carry("p", FAMILY, 0.0, reason="start", why="loaded")
    assert told == list(core.journal.decisions)


def test_pin_binds_every_request_and_its_end_frees_them() -> None:
    core = scheduler(cores=8)
    core.bound(0.0, goal=None, only=lambda o: o is GOOD, reason="pin", why="operator")
    for goal in (None, "latency", "accuracy"):
        batch = core.submit(job(0.0, goal=goal), 0.0)
        assert batch is not None
        assert batch.option is GOOD
    core.bound(0.0, goal=None, only=None, reason="pin", why="unpinned")
    batch = core.submit(job(0.0), 0.0)
    assert batch is not None
    assert batch.option is BEST
    assert [d.reason for d in core.journal.decisions] == ["start", "pin", "pin"]


def test_rule_gives_way_to_what_a_request_asks_for() -> None:
    core = scheduler()
    core.bound(0.0, goal=None, only=lambda o: o is GOOD, firm=False, reason="rule", why="hot")
    plain, asked = core.submit(job(0.0), 0.0), core.submit(job(0.0, goal="latency"), 0.0)
    assert plain is not None
    assert asked is not None
    assert (plain.option, asked.option) == (GOOD, FAST)


def test_pinned_option_that_cannot_meet_a_deadline_refuses_at_once() -> None:
    core = scheduler()
    core.bound(0.0, goal=None, only=lambda o: o is BEST, reason="pin", why="operator")
    with pytest.raises(Exception, match="24 ms \\(p95\\) of inference on the fastest"):
        core.submit(job(0.0, deadline_s=0.01), 0.0)


def test_lane_opened_while_pinned_is_bound_too() -> None:
    core = scheduler()
    core.bound(0.0, goal=None, only=lambda o: o is GOOD, reason="pin", why="operator")
    core.carry("q", FAMILY, 0.0, reason="loaded", why="asked to")
    batch = core.submit(job(0.0, lane="q"), 0.0)
    assert batch is not None
    assert batch.option is GOOD


def test_preferred_goal_applies_to_requests_that_ask_for_nothing() -> None:
    core = scheduler()
    core.bound(0.0, goal="latency", only=None, reason="rule", why="throttled")
    batch = core.submit(job(0.0), 0.0)
    assert batch is not None
    assert batch.option is FAST


def test_rate_decides_with_its_figure() -> None:
    core = scheduler()
    replay(core, [job(at) for at in poisson(900, 3, 4)])
    decision = next(d for d in core.journal.decisions if (d.after, d.reason) == ("fast", "rate"))
    assert decision.figures["rows_per_s"] > 500


@pytest.mark.parametrize("rate", [50, 110, 200, 330, 640])
def test_steady_rate_does_not_flap(rate: float) -> None:
    core = scheduler()
    replay(core, [job(at) for at in poisson(rate, 20, 8)])
    settled = [d for d in core.journal.decisions if d.reason == "rate" and 5 < d.at < 20]
    assert len(settled) <= 2


def test_switches_for_want_of_time_are_counted_there_and_back() -> None:
    core = scheduler()
    for deadline_s in (0.1, 0.01, 0.1):
        batch = core.submit(job(0.0, deadline_s), 0.0)
        assert batch is not None
        core.done(batch, 0.0, batch.expected_ms)
    assert dict(core.journal.switches) == {("p", "start"): 1, ("p", "slack"): 2}
    decision = core.journal.decisions[-1]
    assert decision.why == "deadlines leave no time for best"
    assert decision.figures["slack_ms"] == pytest.approx(9.5)
    assert decision.figures["p95_ms"] == pytest.approx(7.2)


def test_hundred_decisions_are_kept() -> None:
    core = scheduler()
    for _ in range(80):
        core.bound(0.0, goal="latency", only=None, reason="rule", why="on")
        core.bound(0.0, goal=None, only=None, reason="rule", why="off")
    assert len(core.journal.decisions) == 100
