"""Which candidates answer which name: pure, on plans of the contract's device rule."""

from __future__ import annotations

from typing import Any

from scanflow_serve.runtime.engine.lanes import Holding, plan_lanes, without_model
from scanflow_serve.runtime.variants import Candidate, Variant

DESKTOP = {
    "workflows": {
        "B1": {"steps": [{"model": "small"}]},
        "B2": {"steps": [{"model": "large"}]},
    },
    "targets": [{"run": {"any": ["B1", "B2"]}}],
}


def held(ready: Any) -> list[Holding]:
    plan = ready.plan
    return [Holding(plan.chosen, "chosen"), *(Holding(c, "standby") for c in plan.standbys)]


def lanes(ready: Any, holdings: list[Holding]) -> dict[str, tuple[tuple[str, ...], list[str]]]:
    found = plan_lanes(ready.policy_file.policy, ready.plan, holdings)
    return {
        lane.name: (tuple(name for name, _ in lane.names), [c.id for c in lane.candidates])
        for lane in found
    }


def test_run_and_policy_share_a_lane_and_each_model_has_its_own(world: Any) -> None:
    ready = world.prepared()
    found = lanes(ready, held(ready))
    assert found["digits"] == (
        ("digits", "classify"),
        [f"classify:{m}/onnxruntime-fp32x1" for m in ("large", "medium", "small")],
    )
    assert found["small"] == (("small",), ["model:small:small/onnxruntime-fp32x1"])
    assert list(found) == ["digits", "large", "medium", "small"]


def test_alternatives_share_the_policys_lane_and_keep_their_own_names(world: Any) -> None:
    ready = world.prepared(**DESKTOP)
    found = lanes(ready, held(ready))
    assert found["digits"] == (
        ("digits",),
        ["B2:large/onnxruntime-fp32x1", "B1:small/onnxruntime-fp32x1"],
    )
    assert found["B1"] == (("B1",), ["B1:small/onnxruntime-fp32x1"])
    assert found["B2"] == (("B2",), ["B2:large/onnxruntime-fp32x1"])


def test_model_loaded_by_itself_is_a_candidate_of_the_run(world: Any) -> None:
    ready = world.prepared()
    alone = Candidate("model:small", (Variant("small", "onnxruntime", "fp32"),))
    found = lanes(ready, [held(ready)[0], Holding(alone, "loaded")])
    assert found["digits"][1] == [
        "classify:large/onnxruntime-fp32x1",
        "classify:small/onnxruntime-fp32x1",
    ]


def test_candidate_that_breaks_a_bound_never_joins_the_run(world: Any) -> None:
    bounds = {"maximize": "accuracy", "subject_to": {"min_accuracy": 0.95}}
    ready = world.prepared(objective=bounds)
    alone = Candidate("model:small", (Variant("small", "onnxruntime", "fp32"),))
    found = lanes(ready, [held(ready)[0], Holding(alone, "loaded")])
    assert found["digits"][1] == ["classify:large/onnxruntime-fp32x1"]
    assert found["small"][1] == ["model:small:small/onnxruntime-fp32x1"]


def test_what_comes_near_may_answer_where_nothing_meets_the_bounds(world: Any) -> None:
    bounds = {
        "maximize": "accuracy",
        "subject_to": {"min_accuracy": 1.0},
        "on_infeasible": "best_effort",
    }
    ready = world.prepared(objective=bounds)
    alone = Candidate("model:small", (Variant("small", "onnxruntime", "fp32"),))
    found = lanes(ready, [held(ready)[0], Holding(alone, "loaded")])
    assert len(found["digits"][1]) == 2


def test_without_its_models_the_run_has_no_lane(world: Any) -> None:
    ready = world.prepared(**DESKTOP)
    left = without_model(without_model(held(ready), "large"), "small")
    assert lanes(ready, list(left)) == {}
