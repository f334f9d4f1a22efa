"""From sources to what is served, with the real converters, store, backends and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from source_worlds import FILES, rows, save_everywhere, write_policy

from scanflow_serve.converters import make, routes
from scanflow_serve.converters.make import Maker
from scanflow_serve.converters.verification import gate
from scanflow_serve.policies.errors import StateError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime import prepared as kept
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.prepare import Prepared, prepare
from scanflow_serve.runtime.requests import Request
from scanflow_serve.runtime.store import shared_store
from scanflow_serve.runtime.supply import artifact_for

pytestmark = pytest.mark.slow
INT8 = {"backends": ["onnxruntime", "openvino"], "precisions": ["fp32", "int8"], "threads": [1]}
FP32 = {"backends": ["onnxruntime"], "precisions": ["fp32"], "threads": [1]}
CALIBRATION = {"data": "digits.npz", "input": "pixels"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sources")
    save_everywhere(place)
    return place


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def host() -> HostProfile:
    return profile_host()


def prepared(path: Path, host: HostProfile, told: list[str] | None = None) -> Prepared:
    tell = (lambda done, of, what: told.append(what)) if told is not None else None
    return prepare(load_policy(path), host, ingest=Maker(host, progress=tell), gate=gate)


def one(folder: Path, model: str = "onnx", **keys: object) -> Path:
    """Write a policy of one model that may be int8 and is calibrated."""
    models = {model: {**FILES[model], "variants": INT8, **keys}}
    return write_policy(folder, models, calibration=CALIBRATION, objective={"minimize": "size_mb"})


def refusals(outcome: Prepared) -> dict[str, str]:
    return {
        v.candidate.variant_id.partition("/")[2]: v.rejected.code
        for v in outcome.plan.verdicts
        if v.rejected is not None
    }


def test_every_kind_of_file_goes_to_a_served_prediction(folder: Path, host: HostProfile) -> None:
    engine = Engine(prepared(write_policy(folder, FILES), host))
    pixels, labels = rows(50)
    try:
        for name in FILES:
            (spec,) = engine.served(name).signature.inputs
            answer = asyncio.run(engine.infer(Request(name, {spec.name: pixels}, 50)))
            output = engine.served(name).pipeline.classification(answer.outputs)
            assert np.mean(output.argmax(axis=1) == labels) > 0.9, name
        answer = asyncio.run(engine.infer(Request("digits", {"input": pixels}, 50)))
    finally:
        engine.close()
    assert answer.variant.count("+") == len(FILES) - 1


@pytest.mark.parametrize("model", ["onnx", "ir", "program"])
def test_int8_is_made_verified_chosen_and_served(
    folder: Path, host: HostProfile, model: str
) -> None:
    outcome = prepared(one(folder, model, variants=INT8 | {"precisions": ["int8"]}), host)
    chosen = outcome.plan.chosen.variants[0]
    assert chosen.precision == "int8"
    artifact = artifact_for(chosen, outcome.artifacts[model])
    figures = artifact.manifest.verification
    assert figures["rows"] == 256
    assert figures["accuracy"]["drop"] <= 0.01
    assert artifact.manifest.route
    assert artifact.manifest.effective == {chosen.backend: "int8"}
    engine = Engine(outcome)
    try:
        assert engine.served(model).pipeline.candidate.variants == (chosen,)
        collected = shared_store().gc(0, dry_run=False)  # what is served stays
        assert artifact.id in {entry.key for entry in collected.held}
    finally:
        engine.close()


def test_second_start_converts_nothing(
    folder: Path, host: HostProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(one(folder, "factory"), host)

    def never(*args: object, **kwargs: object) -> Path:
        raise AssertionError("converted again")

    monkeypatch.setattr(make.runner, "convert", never)
    again = prepared(one(folder, "factory"), host)
    assert again.artifacts == first.artifacts
    assert again.plan.chosen == first.plan.chosen


def test_refused_conversion_is_listed_with_figures_remembered_and_never_chosen(
    folder: Path, host: HostProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = tuple(
        replace(step, function=f"odd_steps:poison_{step.ensures.format}")
        if step.ensures.precision == "int8"
        else step
        for step in routes.STEPS
    )
    monkeypatch.setattr(routes, "STEPS", poisoned)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    path = one(folder, version="poisoned", max_accuracy_drop=0.002)
    outcome = prepared(path, host)
    assert outcome.plan.chosen.variants[0].precision == "fp32"
    found = next(
        v.rejected
        for v in outcome.plan.verdicts
        if v.candidate.variant_id == "onnx/openvino-int8x1"
    )
    assert found is not None
    assert found.code == "verification"
    assert "got" in found.reason
    assert "model:onnx:onnx/openvino-int8x1" not in outcome.measurements.measured
    (refused,) = [
        r for r in shared_store().refusals().values() if r.manifest.route == ("openvino-int8",)
    ]
    assert refused.manifest.verification["rows"] == 256
    monkeypatch.setattr(make.runner, "convert", None)
    assert refusals(prepared(path, host)) == refusals(outcome)


def test_failing_conversion_takes_only_its_own_candidates_down(
    folder: Path, host: HostProfile
) -> None:
    maker = Maker(host, limits=make.runner.Limits(timeout_s=0.05))
    path = one(folder, max_accuracy_drop=0.003)  # of its own key
    outcome = prepare(load_policy(path), host, ingest=maker, gate=gate)
    assert outcome.plan.chosen.variants[0].precision == "fp32"
    failed = {name for name, code in refusals(outcome).items() if code == "failed"}
    assert failed == {"onnxruntime-int8x1", "openvino-int8x1"}


def test_corrupt_artifact_is_made_again_at_the_next_start(
    folder: Path, host: HostProfile, tmp_path: Path
) -> None:
    path = one(folder, "skops", max_accuracy_drop=0.004, variants=FP32)
    outcome = prepared(path, host)
    kept.save(outcome, tmp_path)
    artifact = outcome.artifacts["skops"][0]
    artifact.path.write_bytes(artifact.path.read_bytes()[:-1] + b"?")
    with pytest.raises(StateError, match="must be as it was planned for"):
        kept.load(tmp_path)
    told: list[str] = []
    again = prepared(path, host, told)
    assert again.artifacts["skops"][0].id == artifact.id
    assert "skops: skops to ONNX" in told


def test_host_without_converters_is_told_what_to_run_and_serves_what_was_made_elsewhere(
    folder: Path, host: HostProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
    path = one(folder, variants=INT8 | {"precisions": ["int8"]})
    policy_file = load_policy(path)
    model = policy_file.policy.models["onnx"]
    with monkeypatch.context() as device:
        device.setattr(make, "installed_tools", lambda: frozenset({"openvino"}))
        refused = Maker(host)("onnx", model, policy_file).refused
    assert set(refused) == {("onnxruntime", "int8"), ("openvino", "int8")}
    for refusal in refused.values():
        assert refusal.code == "not_installed"
        assert "pip install 'scanflow-serve[convert]'" in refusal.reason
        assert "scanflow-serve convert POLICY --for HOST.json" in refusal.reason
    made = Maker(host)("onnx", model, policy_file)
    assert not made.refused
    monkeypatch.setattr(make, "installed_tools", lambda: frozenset({"openvino"}))
    assert Maker(host)("onnx", model, policy_file) == made


def test_contract_of_every_section_plans_with_int8(host: HostProfile) -> None:
    """Its one fault, a retraining workflow that it does not define, is taken out."""
    contract = Path(__file__).parents[1] / "contract"
    lines = (contract / "full.yaml").read_text().splitlines()
    text = "\n".join(line for line in lines if "retrain:" not in line)
    policy_file = load_policy(
        contract / "full.yaml", text=f"measurement: {{budget_s: 600}}\n{text}"
    )
    outcome = prepare(policy_file, host, ingest=Maker(host), gate=gate)
    int8 = [v for v in outcome.plan.verdicts if "-int8" in v.candidate.variant_id]
    assert {v.candidate.variants[0].backend for v in int8} == {"onnxruntime", "openvino"}
    assert {v.candidate.models[0] for v in int8} == {"digits-cnn", "digits-mlp"}
    for verdict in int8:
        assert verdict.measurement is not None, verdict.rejected
        assert verdict.measurement.accuracy is not None
        assert verdict.measurement.accuracy > 0.95
