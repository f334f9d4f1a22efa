from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planning_worlds import FakeCalibrate, FakeModels, host, measurement, policy, policy_file

from scanflow_serve.policies.errors import ArtifactError, InfeasibleError, TargetError
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.prepare import prepare

MLP, CNN = "classify:mlp/onnxruntime-fp32x1", "classify:cnn/onnxruntime-fp32x1"
BF16 = "classify:cnn/openvino-bf16x1"
FIGURES = {
    "mlp/onnxruntime-fp32": measurement(1.0, 0.97),
    "mlp/openvino-fp32": measurement(2.0, 0.97),
    "mlp/openvino-bf16": measurement(1.5, 0.965),
    "cnn/onnxruntime-fp32": measurement(5.0, 0.99, kind="probabilities"),
    "cnn/openvino-fp32": measurement(6.0, 0.99),
    "cnn/openvino-bf16": measurement(3.0, 0.99),
}
BOTH = {"onnxruntime": True, "openvino": True}


def gate(reference, outputs, *, precision):
    """Refuse what differs at all."""
    if all(np.array_equal(reference[name], outputs[name]) for name in reference):
        return None
    return Refusal("verification", f"answers differ in {precision}")


def prepared(
    folder: Path, calibrate=None, ingest=None, installed=BOTH, notes=(), machine=None, **sections
):
    return prepare(
        policy_file(policy(**sections), folder),
        machine or host(1, features=("amx_bf16",)),
        ingest=ingest or FakeModels(folder),
        gate=gate,
        calibrate=calibrate or FakeCalibrate(FIGURES),
        installed=installed,
        notes=notes,
    )


def codes(outcome):
    return {v.candidate.id: v.rejected and v.rejected.code for v in outcome.plan.verdicts}


def test_most_accurate_and_fastest_variant_is_chosen(tmp_path: Path) -> None:
    outcome = prepared(tmp_path, notes=["checks: not active."])
    assert outcome.plan.chosen.id == BF16
    assert set(codes(outcome).values()) == {None, "objective"}
    assert len(codes(outcome)) == 6
    assert outcome.plan.notes == ("checks: not active.",)
    assert sorted(outcome.artifacts) == ["cnn", "mlp"]


def test_kind_of_a_model_is_that_of_its_reference(tmp_path: Path) -> None:
    assert prepared(tmp_path).kinds == {"mlp": "logits", "cnn": "probabilities"}


def test_kind_that_the_policy_declares_prevails(tmp_path: Path) -> None:
    models = {"mlp": {"source": "m.onnx", "kind": "score"}, "cnn": {"source": "c.onnx"}}
    assert prepared(tmp_path, models=models).kinds == {"mlp": "score", "cnn": "probabilities"}


def test_variant_that_answers_differently_is_refused_with_its_figures(tmp_path: Path) -> None:
    world = FakeCalibrate(FIGURES, wrong=frozenset({"cnn/openvino-bf16"}))
    outcome = prepared(tmp_path, world)
    assert outcome.plan.chosen.id == CNN
    verdict = next(v for v in outcome.plan.verdicts if v.candidate.id == BF16)
    assert verdict.rejected == Refusal("verification", "answers differ in bf16")
    assert verdict.measurement == FIGURES["cnn/openvino-bf16"]


def test_variant_that_loses_too_much_accuracy_is_refused(tmp_path: Path) -> None:
    worse = FIGURES | {"cnn/openvino-bf16": measurement(3.0, 0.975)}
    outcome = prepared(tmp_path, FakeCalibrate(worse))
    verdict = next(v for v in outcome.plan.verdicts if v.candidate.id == BF16)
    assert verdict.rejected == Refusal(
        "verification",
        "accuracy 0.975 < 0.990 of cnn/onnxruntime-fp32x1: loses 0.015, max_accuracy_drop "
        "allows 0.01",
    )


def test_second_fp32_variant_is_the_reference_where_the_first_fails(tmp_path: Path) -> None:
    without = {k: v for k, v in FIGURES.items() if k != "cnn/onnxruntime-fp32"}
    world = FakeCalibrate(without, wrong=frozenset({"cnn/openvino-bf16"}))
    found = codes(prepared(tmp_path, world))
    assert found[CNN] == "failed"
    assert found[BF16] == "verification"
    assert found["classify:cnn/openvino-fp32x1"] is None


def test_variant_without_anything_to_compare_with_is_refused(tmp_path: Path) -> None:
    only = {"cnn/openvino-bf16": FIGURES["cnn/openvino-bf16"]}
    with pytest.raises(InfeasibleError, match="to compare with, could not be measured: cnn/onnx"):
        prepared(tmp_path, FakeCalibrate(only))


def test_model_that_can_not_be_read_takes_only_its_own_candidates_down(tmp_path: Path) -> None:
    models = FakeModels(tmp_path, broken={"cnn": ArtifactError("cnn.onnx: is corrupt.")})
    outcome = prepared(tmp_path, ingest=models)
    assert outcome.plan.chosen.id == MLP
    reasons = {v.rejected.reason for v in outcome.plan.verdicts if v.candidate.models == ("cnn",)}
    assert reasons == {"cnn.onnx: is corrupt."}
    assert "cnn" not in outcome.artifacts


def test_no_usable_model_lists_all_reasons(tmp_path: Path) -> None:
    broken = {name: ArtifactError(f"{name}.onnx: is corrupt.") for name in ("mlp", "cnn")}
    with pytest.raises(InfeasibleError, match="must be usable on this host") as caught:
        prepared(tmp_path, ingest=FakeModels(tmp_path, broken=broken))
    assert "mlp.onnx: is corrupt." in str(caught.value)
    assert "cnn.onnx: is corrupt." in str(caught.value)


def test_host_that_no_target_matches_is_told_before_any_model_is_read(tmp_path: Path) -> None:
    broken = {name: AssertionError("read") for name in ("mlp", "cnn")}
    with pytest.raises(TargetError, match="got none"):
        prepared(
            tmp_path,
            ingest=FakeModels(tmp_path, broken=broken),
            targets=[{"when": 'host.kind == "car"', "run": "classify"}],
        )


def test_backend_that_is_not_installed_is_listed_and_not_measured(tmp_path: Path) -> None:
    world = FakeCalibrate(FIGURES)
    found = codes(prepared(tmp_path, world, installed={"onnxruntime": True}))
    assert found["classify:cnn/openvino-fp32x1"] == "not_installed"
    assert not any("openvino" in key for ids, _ in world.calls for key in ids)


MIXED = {"mlp": "logits", "cnn": "probabilities"}


def test_slot_of_mixed_kinds_is_measured_again_as_it_is_served(tmp_path: Path) -> None:
    world = FakeCalibrate(FIGURES)
    outcome = prepared(tmp_path, world)
    assert outcome.kinds == MIXED
    assert world.kinds[:2] == [{}, MIXED]
    first, again, *_ = (set(ids) for ids, _ in world.calls)
    assert first == again


def test_kinds_of_a_longer_workflow_are_known_before_it_is_measured(tmp_path: Path) -> None:
    world = FakeCalibrate(FIGURES)
    steps = [{"python": "steps:clip"}, {"model": ["mlp", "cnn"]}]
    prepared(tmp_path, world, workflows={"classify": {"steps": steps}})
    runs = [{key.partition(":")[0] for key in ids} for ids, _ in world.calls]
    assert runs[:2] == [{"model"}, {"classify"}]
    assert world.kinds[:2] == [{}, MIXED]


def test_kind_that_only_one_model_of_a_slot_declares_is_no_reason_to_guess(tmp_path: Path) -> None:
    models = {"mlp": {"source": "m.onnx"}, "cnn": {"source": "c.onnx", "kind": "probabilities"}}
    world = FakeCalibrate(FIGURES)
    assert prepared(tmp_path, world, models=models).kinds == MIXED
    assert all(key.startswith("model:") for key in world.calls[0][0])
    assert world.kinds[1] == MIXED


def test_accuracy_that_could_not_be_measured_is_noted_once(tmp_path: Path) -> None:
    lost = {
        name: measurement(2.0, None, unscored="classify: exactly one output must be float.")
        for name in FIGURES
    }
    outcome = prepared(tmp_path, FakeCalibrate(lost), objective={"minimize": "latency_p95_ms"})
    assert outcome.plan.notes == (
        "Accuracy could not be measured. classify: exactly one output must be float.",
    )


def test_infeasible_policy_leaves_what_was_measured(tmp_path: Path) -> None:
    objective = {"maximize": "accuracy", "subject_to": {"max_latency_p95_ms": 0.1}}
    with pytest.raises(InfeasibleError, match="must meet the constraints") as caught:
        prepared(tmp_path, objective=objective)
    known = caught.value.measurements
    assert known.host == host(1, features=("amx_bf16",)).fingerprint
    assert known.measured[BF16] == FIGURES["cnn/openvino-bf16"]


def test_loaded_variants_have_figures_as_models_without_measuring_twice(tmp_path: Path) -> None:
    alike = {name: replace(figures, kind="logits") for name, figures in FIGURES.items()}
    world = FakeCalibrate(alike)
    outcome = prepared(tmp_path, world)
    assert "model:cnn:cnn/openvino-bf16x1" in outcome.measurements.measured
    assert len(world.calls) == 1


def test_models_in_a_longer_workflow_are_measured_by_themselves_too(tmp_path: Path) -> None:
    steps = [{"python": "steps:clip"}, {"model": ["mlp", "cnn"]}]
    outcome = prepared(tmp_path, workflows={"classify": {"steps": steps}})
    loaded = [outcome.plan.chosen, *outcome.plan.standbys]
    ids = {f"model:{c.models[0]}:{c.variant_id}" for c in loaded}
    assert ids <= set(outcome.measurements.measured)
    assert outcome.kinds == {"mlp": "logits", "cnn": "probabilities"}


COMMITTEE = {
    "workflows": {
        "both": {"steps": [{"parallel": [{"model": "mlp"}, {"model": "cnn"}], "combine": "mean"}]}
    },
    "targets": [{"run": "both"}],
}


def test_run_of_several_slots_lists_every_variant_once(tmp_path: Path) -> None:
    world = FakeCalibrate(FIGURES, wrong=frozenset({"mlp/openvino-bf16"}))
    outcome = prepared(tmp_path, world, **COMMITTEE)
    assert outcome.plan.chosen.id == "both:mlp/onnxruntime-fp32x1+cnn/openvino-bf16x1"
    found = codes(outcome)
    assert found["model:mlp:mlp/openvino-bf16x1"] == "verification"
    assert found["model:mlp:mlp/openvino-fp32x1"] == "dominated"
    listed = {variant.id for v in outcome.plan.verdicts for variant in v.candidate.variants}
    assert len(listed) == 6
    figures = {v.candidate.id: v.measurement for v in outcome.plan.verdicts}
    assert figures["model:mlp:mlp/openvino-fp32x1"] == FIGURES["mlp/openvino-fp32"]


def test_stages_share_the_time_budget_and_the_last_is_never_left_out(tmp_path: Path) -> None:
    world = FakeCalibrate(FIGURES)
    prepared(tmp_path, world, measurement={"budget_s": 40.0}, **COMMITTEE)
    alone, combined = [budget for _, budget in world.calls]
    assert alone <= 20.0
    assert 10.0 <= combined <= 40.0


def test_run_without_a_model_is_measured_as_it_is(tmp_path: Path) -> None:
    flow = {
        "workflows": {"clip": {"steps": [{"python": "steps:clip"}]}},
        "targets": [{"run": "clip"}],
    }
    outcome = prepared(tmp_path, **flow)
    assert outcome.plan.chosen.id == "clip:"
    assert outcome.artifacts == {}


def test_alternatives_compete(tmp_path: Path) -> None:
    flows = {"B1": {"steps": [{"model": "mlp"}]}, "B2": {"steps": [{"model": "cnn"}]}}
    outcome = prepared(tmp_path, workflows=flows, targets=[{"run": {"any": ["B1", "B2"]}}])
    assert outcome.plan.chosen.id == "B2:cnn/openvino-bf16x1"
    assert outcome.plan.run == "any: B1, B2"
    assert outcome.plan.standbys[0].run == "B1"


def test_candidates_left_by_the_budget_are_noted(tmp_path: Path) -> None:
    class Slow(FakeCalibrate):
        def __call__(self, *args, **options):
            outcome = super().__call__(*args, **options)
            if outcome.measured.pop(BF16, None):
                reason = "Raise measurement.budget_s in the policy."
                outcome.refused[BF16] = Refusal("budget", reason)
            return outcome

    outcome = prepared(tmp_path, Slow(FIGURES))
    assert codes(outcome)[BF16] == "budget"
    assert outcome.plan.notes == (
        "Not every candidate was measured within measurement.budget_s: 60 (1 left out). "
        "The next start goes on with them.",
    )
