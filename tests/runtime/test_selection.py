from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_worlds import candidate, host, measurement, policy

from scanflow_serve.policies.errors import InfeasibleError
from scanflow_serve.runtime.constraints import bounds, violations
from scanflow_serve.runtime.figures import FIGURES
from scanflow_serve.runtime.measurements import Measurements, Refusal
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.ranking import dominates
from scanflow_serve.runtime.selection import objective_text, select

MLP, CNN = "mlp/onnxruntime-fp32x1", "cnn/onnxruntime-fp32x1"


def plan(figures, rules=None, refused=None, machine=None, notes=()):
    """Return the plan where *figures* maps variant ids to measurements."""
    refused = refused or {}
    everyone = [candidate(text) for text in dict.fromkeys((*figures, *refused))]
    known = Measurements(
        "here",
        {candidate(text).id: m for text, m in figures.items()},
        {candidate(text).id: r for text, r in refused.items()},
    )
    return select(rules or policy(), machine or host(), 0, everyone, known, notes=notes)


def why(outcome, text):
    found = {v.candidate.variant_id: v.rejected for v in outcome.verdicts}[text]
    return found and found.reason


def objective(direction="maximize", figure="accuracy", on_infeasible="fail", **limits):
    return {direction: figure, "subject_to": limits, "on_infeasible": on_infeasible}


def test_most_accurate_within_the_budget_is_chosen() -> None:
    outcome = plan(
        {
            MLP: measurement(1.0, 0.97),
            CNN: measurement(2.0, 0.99),
            "big/onnxruntime-fp32x1": measurement(31.2, 0.999),
        }
    )
    assert outcome.chosen == candidate(CNN)
    assert why(outcome, CNN) is None
    assert why(outcome, MLP) == "accuracy 0.970 < 0.990 of the chosen"
    text = why(outcome, "big/onnxruntime-fp32x1")
    assert text == "latency p95 31.2 ms > 20 ms (56 % over)"


def test_all_broken_bounds_stand_in_one_reason() -> None:
    rules = policy(objective=objective(max_latency_p95_ms=2.0, min_accuracy=0.95))
    outcome = plan({CNN: measurement(1.0, 0.99), MLP: measurement(6.0, 0.9)}, rules)
    assert why(outcome, MLP) == (
        "latency p95 6 ms > 2 ms (3 times); accuracy 0.900 < 0.950 (0.05 short)"
    )


def test_equal_accuracy_is_decided_by_latency() -> None:
    outcome = plan({MLP: measurement(1.0), CNN: measurement(2.0)})
    assert outcome.chosen == candidate(MLP)
    assert why(outcome, CNN) == "as accurate, but slower: latency p95 2 ms > 1 ms"


def test_latency_within_noise_is_decided_by_size() -> None:
    outcome = plan({MLP: measurement(1.0, size_mb=3.0), CNN: measurement(1.04, size_mb=2.0)})
    assert outcome.chosen == candidate(CNN)
    assert why(outcome, MLP) == "as accurate and as fast, but larger: size 3 MB > 2 MB"


def test_one_row_of_accuracy_is_no_tie() -> None:
    outcome = plan({MLP: measurement(1.0, 296 / 300), CNN: measurement(9.0, 297 / 300)})
    assert outcome.chosen == candidate(CNN)


def test_values_that_look_equal_are_written_until_they_differ() -> None:
    outcome = plan({MLP: measurement(1.0, 0.98999), CNN: measurement(1.0, 0.99001)})
    assert why(outcome, MLP) == "accuracy 0.98999 < 0.99001 of the chosen"


def test_fewer_threads_win_where_nothing_else_differs() -> None:
    outcome = plan({"cnn/onnxruntime-fp32x2": measurement(), CNN: measurement()})
    assert outcome.chosen == candidate(CNN)
    assert why(outcome, "cnn/onnxruntime-fp32x2") == "no better, but uses more threads: 2 > 1"


@pytest.mark.parametrize(
    ("direction", "figure", "winner"),
    [
        ("minimize", "latency_p95_ms", MLP),
        ("minimize", "memory_mb", CNN),
        ("minimize", "size_mb", CNN),
        ("maximize", "throughput_rps", MLP),
        ("minimize", "energy_mj", CNN),
    ],
)
def test_every_figure_can_be_the_objective(direction, figure, winner) -> None:
    rules = policy(objective=objective(direction, figure))
    figures = {
        MLP: measurement(1.0, memory_mb=50.0, size_mb=9.0, throughput_rps=9e3, energy_mj=8.0),
        CNN: measurement(3.0, memory_mb=20.0, size_mb=2.0, throughput_rps=1e3, energy_mj=1.0),
    }
    assert plan(figures, rules).chosen == candidate(winner)


def test_energy_without_a_counter_is_refused() -> None:
    rules = policy(objective=objective("minimize", "energy_mj"))
    with pytest.raises(InfeasibleError, match="energy is not measurable here: this host has no"):
        plan({MLP: measurement(), CNN: measurement()}, rules)


def test_candidate_without_accuracy_is_rejected_where_accuracy_decides() -> None:
    outcome = plan({MLP: measurement(accuracy=None), CNN: measurement(9.0)})
    assert outcome.chosen == candidate(CNN)
    assert why(outcome, MLP) == "accuracy decides, but it could not be measured"


def test_refusal_prevails_over_figures() -> None:
    refused = {CNN: Refusal("verification", "answers differ")}
    outcome = plan({MLP: measurement(), CNN: measurement(0.1, 0.99)}, refused=refused)
    assert outcome.chosen == candidate(MLP)
    rejected = next(v for v in outcome.verdicts if v.candidate == candidate(CNN))
    assert (rejected.rejected, rejected.measurement) == (refused[CNN], measurement(0.1, 0.99))


def test_candidate_that_nobody_measured_is_listed() -> None:
    known = Measurements("here", {candidate(CNN).id: measurement()})
    outcome = select(policy(), host(), 0, [candidate(MLP), candidate(CNN)], known)
    assert why(outcome, MLP) == "was not measured"


def test_infeasible_names_the_three_nearest_misses() -> None:
    figures = {f"m{n}/onnxruntime-fp32x1": measurement(20.0 + n) for n in range(1, 6)}
    with pytest.raises(InfeasibleError, match="got none of 5 measured") as caught:
        plan(figures)
    lines = str(caught.value).splitlines()
    assert lines[1] == "  classify:m1/onnxruntime-fp32x1: latency p95 21 ms > 20 ms (5 % over)"
    assert [line.split("/")[0] for line in lines[1:4]] == [f"  classify:m{n}" for n in (1, 2, 3)]
    assert lines[4].startswith("Loosen objective.subject_to")
    assert len(caught.value.verdicts) == 5


def test_best_effort_takes_the_least_violation() -> None:
    rules = policy(objective=objective(on_infeasible="best_effort", max_latency_p95_ms=1.0))
    outcome = plan({MLP: measurement(2.0, 0.9), CNN: measurement(3.0, 0.99)}, rules)
    assert outcome.chosen == candidate(MLP)
    assert not outcome.feasible
    assert outcome.notes == (
        "No candidate meets the constraints; the nearest was taken: "
        "latency p95 2 ms > 1 ms (2 times).",
    )
    assert why(outcome, CNN) == "latency p95 3 ms > 1 ms (3 times)"


def test_best_effort_can_not_conjure_figures() -> None:
    rules = policy(objective=objective(on_infeasible="best_effort"))
    with pytest.raises(InfeasibleError, match=r"got 0 of 1\.\n  crashed"):
        plan({}, rules, refused={MLP: Refusal("failed", "crashed")})


TRADE = {
    MLP: measurement(1.0, 0.90, 10.0),
    CNN: measurement(3.0, 0.98, 12.0),
    "big/onnxruntime-fp32x1": measurement(19.0, 0.99, 40.0),
}


@pytest.mark.parametrize(
    ("prefer", "winner"),
    [("latency", MLP), ("balanced", CNN), ("accuracy", "big/onnxruntime-fp32x1")],
)
def test_prefer_replaces_the_objective(prefer, winner) -> None:
    rules = policy(scheduling={"prefer": prefer}, objective=objective("minimize", "size_mb"))
    outcome = plan(TRADE, rules)
    assert outcome.chosen == candidate(winner)
    assert f"(scheduling.prefer: {prefer})" in outcome.objective


def test_balanced_says_how_far_the_others_lie_from_the_best() -> None:
    outcome = plan(TRADE, policy(scheduling={"prefer": "balanced"}))
    assert "farther from the best of accuracy, latency and memory together" in why(outcome, MLP)


def test_standbys_are_of_the_frontier_and_prefer_other_models() -> None:
    figures = {
        CNN: measurement(3.0, 0.99, 12.0),
        "cnn/openvino-bf16x1": measurement(2.0, 0.98, 30.0),
        "cnn/openvino-fp32x1": measurement(4.0, 0.99, 40.0),
        MLP: measurement(1.0, 0.9, 10.0),
    }
    one = plan(figures, policy(scheduling={"standbys": 1}))
    assert one.standbys == (candidate(MLP),)
    two = plan(figures, policy(scheduling={"standbys": 2}))
    assert two.standbys == (candidate("cnn/openvino-bf16x1"), candidate(MLP))
    none = plan(figures, policy(scheduling={"standbys": 0}))
    assert none.standbys == ()
    assert {v.candidate.variant_id for v in two.verdicts if v.pareto} == {
        CNN,
        "cnn/openvino-bf16x1",
        MLP,
    }


def test_standbys_stay_within_the_memory_that_is_granted() -> None:
    figures = {CNN: measurement(3.0, 0.99, 100.0), MLP: measurement(1.0, 0.9, 90.0)}
    assert plan(figures, machine=host(memory_mb=512.0)).standbys == (candidate(MLP),)
    assert plan(figures, machine=host(memory_mb=256.0)).standbys == ()
    rules = policy(objective=objective(max_memory_mb=150.0))
    assert plan(figures, rules).standbys == ()


def test_objective_reads_with_its_constraints() -> None:
    rules = policy(objective=objective(max_latency_p95_ms=20.0, min_accuracy=0.9))
    assert objective_text(rules) == (
        "maximize accuracy subject to latency p95 <= 20 ms, accuracy >= 0.9"
    )


def test_notes_are_carried_along() -> None:
    outcome = plan({MLP: measurement()}, notes=["checks: not active."])
    assert outcome.notes == ("checks: not active.",)


figures = st.builds(
    measurement,
    p95_ms=st.floats(0.01, 40),
    accuracy=st.integers(0, 20).map(lambda n: n / 20),
    memory_mb=st.floats(1, 500),
    size_mb=st.integers(1, 5).map(float),
    throughput_rps=st.floats(1, 1e5),
)
worlds = st.dictionaries(
    st.builds(
        lambda model, backend, threads: f"{model}/{backend}-fp32x{threads}",
        st.sampled_from(["mlp", "cnn", "big"]),
        st.sampled_from(["onnxruntime", "openvino"]),
        st.integers(1, 3),
    ),
    st.one_of(figures, st.just(Refusal("failed", "crashed"))),
    min_size=1,
)
goals = st.sampled_from(
    [
        ("maximize", "accuracy"),
        ("maximize", "throughput_rps"),
        ("minimize", "latency_p95_ms"),
        ("minimize", "memory_mb"),
        ("minimize", "size_mb"),
    ]
)


def decided(rules, everyone, known):
    """Return the plan, or the error that says why there is none."""
    try:
        return select(rules, host(), 0, everyone, known)
    except InfeasibleError as error:
        return error


@settings(deadline=None)
@given(
    worlds,
    goals,
    st.sampled_from([None, None, "latency", "accuracy", "balanced"]),
    st.sampled_from(["fail", "best_effort"]),
    st.randoms(use_true_random=False),
)
def test_plan_keeps_its_promises(world, goal, prefer, on_infeasible, random) -> None:
    """Chosen is feasible and unbeaten, everyone is listed once, and order does not matter."""
    limits = {"max_latency_p95_ms": 20.0, "min_accuracy": 0.3, "max_memory_mb": 400.0}
    rules = policy(
        objective=objective(*goal, on_infeasible=on_infeasible, **limits),
        scheduling={"prefer": prefer},
    )
    everyone = [candidate(text) for text in world]
    ids = {candidate(text).id: value for text, value in world.items()}
    refused = {key: value for key, value in ids.items() if isinstance(value, Refusal)}
    measured = {key: value for key, value in ids.items() if key not in refused}
    known = Measurements("here", measured, refused)
    good = {k: m for k, m in measured.items() if not violations(bounds(rules.objective), m)}
    outcome = decided(rules, everyone, known)
    assert sorted(v.candidate.id for v in outcome.verdicts) == sorted(ids)
    if isinstance(outcome, InfeasibleError):
        assert not good
        assert on_infeasible == "fail" or not measured
        assert all(v.rejected for v in outcome.verdicts)
        return
    assert outcome.feasible == bool(good)
    assert [v.candidate for v in outcome.verdicts if v.rejected is None] == [outcome.chosen]
    assert outcome.verdicts[0].candidate == outcome.chosen
    if good:
        assert outcome.chosen.id in good
        figure = FIGURES.get(outcome.goal)
        for other in good.values():
            chosen = good[outcome.chosen.id]
            if figure is not None:
                mine, theirs = figure.of(chosen), figure.of(other)
                assert not figure.better(theirs, mine) or figure.tied(theirs, mine)
    edge = {v.candidate.id for v in outcome.verdicts if v.pareto}
    for key in edge:
        assert not any(dominates(other, good[key]) for other in good.values())
    assert {c.id for c in outcome.standbys} <= edge - {outcome.chosen.id}
    assert len(outcome.standbys) <= rules.scheduling.standbys
    random.shuffle(everyone)
    assert select(rules, host(), 0, everyone, known) == outcome
    assert Plan.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_plan_depends_on_measurements_of_this_host_only() -> None:
    outcome = plan({MLP: measurement()}, machine=replace(host(), temperature_c=80.0))
    assert outcome.host == host().fingerprint


def test_reason_that_holds_for_every_thread_count_is_said_once() -> None:
    lost = Refusal("unsupported", "net.onnx: openvino can't load it: it lacks Frobnicate.")
    texts = [f"mlp/openvino-{kind}x{n}" for kind in ("bf16", "fp32") for n in (1, 2, 16)]
    outcome = plan({MLP: measurement()}, refused=dict.fromkeys(texts, lost))
    found = {v.candidate.variant_id: v.rejected for v in outcome.verdicts if v.rejected}
    assert found == {
        text: lost if text.endswith("x1") else Refusal("unsupported", "as x1") for text in texts
    }


def test_reasons_of_an_infeasible_policy_are_given_in_full() -> None:
    lost = Refusal("failed", "the measuring process was ended by SIGSEGV.")
    with pytest.raises(InfeasibleError, match="got 0 of 2") as caught:
        plan({}, refused={"mlp/openvino-fp32x2": lost, "mlp/openvino-fp32x4": lost})
    assert str(caught.value).splitlines()[1:] == [f"  {lost.reason}"]
    assert [v.rejected.reason for v in caught.value.verdicts] == [lost.reason, "as x2"]
