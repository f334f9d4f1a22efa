from __future__ import annotations

import pytest
from simulation_worlds import FAST, SLOW, option

from scanflow_serve.runtime.simulation.arrivals import Arrival
from scanflow_serve.runtime.simulation.results import Result, credit_of, result, timeline
from scanflow_serve.runtime.simulation.world import Log, Outcome

LOG = Log(
    outcomes=[
        Outcome(Arrival(0.0), "in_time", 0.010, SLOW),
        Outcome(Arrival(1.0), "in_time", 0.020, FAST),
        Outcome(Arrival(2.0), "late", 0.200, FAST),
        Outcome(Arrival(3.0), "refused", 0.001),
        Outcome(Arrival(4.9), "dropped", 0.100),
    ],
    switches=[1.0],
    batches=[1, 2],
)


def test_figures_of_a_run_are_shares_of_all_requests() -> None:
    assert result("ours", LOG, (SLOW, FAST)) == Result(
        strategy="ours",
        requests=5,
        effective_accuracy=pytest.approx((0.99 + 0.92) / 5),
        refused=0.2,
        dropped=0.2,
        late=0.2,
        p50_ms=20.0,
        p99_ms=200.0,
        goodput_rps=pytest.approx(2 / 5),
        switches=1,
        switches_per_minute=pytest.approx(12),
        mean_batch=1.5,
        shares={"fast": pytest.approx(2 / 3), "slow": pytest.approx(1 / 3)},
    )


def test_answers_count_as_right_only_where_no_accuracy_is_known() -> None:
    unknown = option("unknown", 1.0, 1.0)
    assert credit_of((unknown,)) == {unknown.id: 1.0}
    assert credit_of((FAST, unknown)) == {FAST.id: 0.92, unknown.id: 0.0}


def test_run_without_any_answer_has_figures_too() -> None:
    nothing = Log([Outcome(Arrival(0.0), "refused", 0.001)])
    found = result("ours", nothing, (FAST,))
    assert (found.effective_accuracy, found.misses, found.p99_ms) == (0.0, 1.0, 0.0)
    assert found.shares == {}


def test_timeline_places_each_request_at_its_arrival() -> None:
    shown = timeline(LOG, steps=5)
    assert shown.step_s == pytest.approx(0.98)
    each = 1 / 0.98
    assert shown.load_rps == pytest.approx([each, each, each, each, 0, each])
    assert shown.misses_rps == pytest.approx([0, 0, each, each, 0, each])
    assert shown.answers_rps["fast"] == pytest.approx([0, each, each, 0, 0, 0])


def test_timeline_of_a_moment_has_one_step() -> None:
    assert timeline(Log([Outcome(Arrival(0.0), "refused", 0.0)]), 100).load_rps == [10.0]
