from __future__ import annotations

import pytest
from planning_worlds import candidate, host, measurement, policy
from simulation_worlds import setting as made_up

from scanflow_serve.runtime.measurements import Latency, Measurements
from scanflow_serve.runtime.selection import select
from scanflow_serve.runtime.simulation.arrivals import drawn, parse
from scanflow_serve.runtime.simulation.comparison import OURS, runs, setting
from scanflow_serve.runtime.simulation.optimum import optimum
from scanflow_serve.runtime.simulation.world import Machine

CNN = candidate("cnn/onnxruntime-fp32x2")
MLP = candidate("mlp/onnxruntime-fp32x1")
SLOW_MLP = candidate("mlp/openvino-fp32x1")


def test_server_of_a_plan_schedules_the_chosen_and_its_standbys() -> None:
    here = host(2.5)
    latency = {1: Latency(8.0, 9.0, 100), 8: Latency(40.0, 44.0, 100)}
    known = Measurements(
        here.fingerprint,
        {
            CNN.id: measurement(9.0, 0.99, latency=latency),
            MLP.id: measurement(1.0, 0.97),
            SLOW_MLP.id: measurement(2.0, 0.97),
        },
    )
    asked = policy(scheduling={"max_batch": 8, "max_queue": 40})
    plan = select(asked, here, 0, [CNN, MLP, SLOW_MLP], known)
    found = setting(plan, asked, here, None)
    assert [each.id for each in found.options] == [CNN.id, MLP.id]
    assert [(each.threads, each.accuracy) for each in found.options] == [(2, 0.99), (1, 0.97)]
    assert found.options[0].curve.p95_ms(8) == 44.0
    assert (found.lane, found.cores, found.max_batch, found.max_queue) == ("digits", 2, 8, 40)
    assert found.deadline_s == pytest.approx(0.020)  # of objective.subject_to
    assert setting(plan, asked, here, 250.0).deadline_s == pytest.approx(0.250)


def test_comparison_runs_simpler_rules_and_each_variant_alone() -> None:
    world = made_up()
    arrivals = drawn(parse("poisson:rate=50,seconds=2"), 1)
    found = list(runs(arrivals, world, Machine(2), seed=1, compare=True))
    assert [run.result.strategy for run in found] == [
        OURS,
        *("slack only", "rate thresholds", "slow", "middle", "fast"),
    ]
    for run in found[3:]:
        assert set(run.result.shares) == {run.result.strategy}
    (alone,) = runs(arrivals, world, Machine(2), seed=1, compare=False)
    assert alone.result == found[0].result


@pytest.mark.parametrize(
    "load",
    [
        "poisson:rate=60",
        "poisson:rate=700",
        "gamma:rate=250,cv2=4",
        "mmpp:low=30,high=600,dwell_s=2",
        "spike:base=50,peak=1000,at=4,width=2",
    ],
)
def test_our_scheduler_beats_every_simpler_rule_and_comes_close_to_the_optimum(load: str) -> None:
    """What the product promises of effective accuracy, on a family that saturates two cores."""
    world = made_up()
    arrivals = drawn(parse(f"{load},seconds=10"), 1)
    ours, *others = (run.result for run in runs(arrivals, world, Machine(2), seed=1, compare=True))
    for other in others:
        assert ours.effective_accuracy >= other.effective_accuracy - 0.001, other.strategy
    assert ours.effective_accuracy >= optimum(arrivals, world, 0.2) - 0.02
    assert ours.misses <= 0.01
