"""The contract's policies, prepared with real models, backends and measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scanflow_serve.converters.make import Maker
from scanflow_serve.converters.verification import gate
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.calibration.calibrate import calibrate
from scanflow_serve.runtime.elsewhere import plan_for
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.measurements import Measurements
from scanflow_serve.runtime.prepare import Prepared, load, prepare, save

CONTRACT = Path(__file__).parents[1] / "contract"
pytestmark = pytest.mark.slow

# One thread and one backend are enough to see the whole way; more only measures longer.
INSTALLED = {name: name == "onnxruntime" for name in registry.BACKENDS}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def this_host(kind: str):
    host = profile_host()
    features = tuple(sorted({*host.cpu.features, "avx512_vnni"}))
    cores = 2.0 if kind == "desktop" else 1.0
    cpu = replace(host.cpu, cores=cores, features=features)
    return replace(host, kind=kind, cpu=cpu, memory_mb=8192.0)


def prepared(policy: str, kind: str, measure=calibrate) -> Prepared:
    return prepare(
        load_policy(CONTRACT / policy),
        this_host(kind),
        ingest=Maker(this_host(kind)),
        gate=gate,
        calibrate=measure,
        installed=INSTALLED,
    )


@pytest.mark.parametrize(
    ("kind", "run", "models", "accuracy"),
    [
        ("raspberry-pi", "A", ("digits-linear",), 0.923),
        ("desktop", "B2", ("digits-cnn",), 0.990),
        ("cluster", "committee", ("digits-mlp", "digits-cnn", "digits-cnn-large"), 0.98),
        ("car", "C1>C2>C3", ("digits-cnn-large",), 0.993),
    ],
)
def test_each_kind_of_host_gets_its_workflow(kind, run, models, accuracy) -> None:
    outcome = prepared("targets.yaml", kind)
    assert outcome.plan.chosen.run == run
    assert outcome.plan.chosen.models == models
    figures = outcome.measurements.measured[outcome.plan.chosen.id]
    assert figures.accuracy_rows == 300
    assert figures.accuracy >= accuracy - 5e-4
    assert set(outcome.kinds.values()) <= {"logits", "probabilities"}
    again = plan_for(outcome.policy_file, outcome.host, outcome.measurements)
    assert again == outcome.plan


def test_quickstart_is_prepared_from_the_cache_and_from_its_state(tmp_path: Path) -> None:
    outcome = prepared("quickstart.yaml", "laptop")
    assert outcome.plan.chosen.models == ("digits-cnn",)
    asked: list[str] = []

    def watched(*args, progress, **options):
        return calibrate(*args, progress=lambda done, of, what: asked.append(what), **options)

    assert prepared("quickstart.yaml", "laptop", watched) == outcome
    assert asked == []
    save(outcome, tmp_path)
    assert load(tmp_path) == outcome


def test_plan_is_the_same_from_its_recorded_measurements() -> None:
    outcome = prepared("quickstart.yaml", "laptop")
    recorded = Measurements.from_json(outcome.measurements.to_json())
    assert plan_for(outcome.policy_file, outcome.host, recorded) == outcome.plan


def test_accelerator_that_only_the_profile_knows_is_refused_and_the_plan_goes_on() -> None:
    claims = ("nvidia", "onnxruntime:CUDAExecutionProvider")
    outcome = prepare(
        load_policy(CONTRACT / "targets.yaml"),
        replace(this_host("raspberry-pi"), accelerators=claims),
        ingest=Maker(this_host("raspberry-pi")),
        gate=gate,
        calibrate=calibrate,
        installed=INSTALLED,
    )
    assert outcome.plan.chosen.variant_id == "digits-linear/onnxruntime-fp32x1"
    refused = outcome.measurements.refused["A:digits-linear/onnxruntime-fp32@CUDAx1"]
    assert refused.code == "failed"
    assert "the device must be one of CPU, got 'CUDA'. Install the build" in refused.reason


def test_slot_of_logits_and_probabilities_is_measured_as_it_is_served() -> None:
    text = (CONTRACT / "quickstart.yaml").read_text().replace("digits-cnn", "digits-linear")
    outcome = prepare(
        load_policy(CONTRACT / "quickstart.yaml", text=text),
        this_host("raspberry-pi"),
        ingest=Maker(this_host("raspberry-pi")),
        gate=gate,
        installed=INSTALLED,
    )
    assert outcome.kinds == {"digits-mlp": "logits", "digits-linear": "probabilities"}
    verdicts = [verdict.measurement for verdict in outcome.plan.verdicts]
    assert {figures.kind for figures in verdicts if figures} == {"probabilities"}
    measured = outcome.measurements.measured
    alone = measured[f"model:digits-mlp:{outcome.plan.chosen.variant_id}"]
    assert alone.kind == "logits"  # a model by itself is served as it is
    engine = Engine(outcome)
    try:
        assert engine.served("digits").pipeline.kind == "probabilities"
    finally:
        engine.close()
