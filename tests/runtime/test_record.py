from __future__ import annotations

import json
from pathlib import Path

import pytest
from planning_worlds import host, measurement, policy, policy_file

from scanflow_serve.policies.errors import InfeasibleError, UsageError
from scanflow_serve.runtime.elsewhere import plan_for
from scanflow_serve.runtime.measurements import Measurements, Refusal
from scanflow_serve.runtime.record import Record, load_record

PI = host(4, kind="raspberry-pi", arch="aarch64")
CNN = "classify:cnn/onnxruntime-fp32x1"
CNN_OPENVINO = "classify:cnn/openvino-fp32x1"
MLP = "classify:mlp/onnxruntime-fp32x4"
FOUND = Measurements(
    PI.fingerprint,
    {CNN: measurement(9.0, 0.99), MLP: measurement(1.0, 0.97)},
    {CNN_OPENVINO: Refusal("not_installed", "is not installed")},
)
RECORD = Record("digits", PI, FOUND)


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "measurements.json"
    path.write_text(json.dumps(document))
    return path


def test_record_comes_back_from_its_file(tmp_path: Path) -> None:
    assert load_record(written(tmp_path, RECORD.to_json())) == RECORD
    assert Measurements.from_json(json.loads(json.dumps(FOUND.to_json()))) == FOUND


def test_every_fault_of_a_record_is_told(tmp_path: Path) -> None:
    document = RECORD.to_json()
    del document["measured"][CNN]["memory_mb"]
    document["measured"][MLP]["throughput_rps"] = "fast"
    with pytest.raises(UsageError, match="memory_mb: Field required") as caught:
        load_record(written(tmp_path, document))
    assert "throughput_rps: Input should be a valid number" in str(caught.value)
    assert "scanflow-serve calibrate POLICY --json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"refused": {"cnn": {"code": "failed", "reason": "x"}}}, "must read RUN:VARIANT"),
        ({"host": {"kind": "desktop"}}, "Field required"),
        ({"policy": None}, "policy: Input should be a valid string"),
    ],
)
def test_malformed_record_is_refused(tmp_path: Path, change, text) -> None:
    with pytest.raises(UsageError, match=text):
        load_record(written(tmp_path, RECORD.to_json() | change))


def test_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a JSON object, got 'list'"):
        load_record(written(tmp_path, []))
    (tmp_path / "text").write_text("{")
    with pytest.raises(UsageError, match="must be JSON"):
        load_record(tmp_path / "text")
    with pytest.raises(UsageError, match="must be readable, got 'No such file"):
        load_record(tmp_path / "absent")


def planned(tmp_path: Path, measurements: Measurements = FOUND, machine=PI, **sections):
    return plan_for(policy_file(policy(**sections), tmp_path), machine, measurements)


def test_plan_for_another_machine_takes_its_figures(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert plan.chosen.id == CNN
    assert plan.host == PI.fingerprint
    reasons = {v.candidate.id: v.rejected and v.rejected.code for v in plan.verdicts}
    assert reasons == {CNN: None, MLP: "objective", CNN_OPENVINO: "not_installed"}


def test_plan_for_another_machine_follows_the_policy_of_today(tmp_path: Path) -> None:
    tight = {"maximize": "accuracy", "subject_to": {"max_latency_p95_ms": 5.0}}
    assert planned(tmp_path, objective=tight).chosen.id == MLP
    models = {
        "mlp": {"source": "m.onnx", "variants": {"threads": [1]}},
        "cnn": {"source": "c.onnx"},
    }
    assert [v.candidate.id for v in planned(tmp_path, models=models).verdicts] == [
        CNN,
        CNN_OPENVINO,
    ]


@pytest.mark.parametrize("figures", [Measurements("elsewhere", FOUND.measured), Measurements("")])
def test_without_figures_of_that_host_the_text_says_what_to_run_there(tmp_path, figures) -> None:
    with pytest.raises(InfeasibleError, match=f"figures of host {PI.fingerprint}") as caught:
        planned(tmp_path, figures)
    assert "scanflow-serve calibrate policy.yaml --json > measurements.json" in str(caught.value)
    codes = {v.candidate.id: v.rejected.code for v in caught.value.verdicts}
    assert codes[CNN] == "unmeasured"
    assert len(codes) == 12  # two models, two backends, 1, 2 and 4 threads
