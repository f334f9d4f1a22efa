"""Real children on real models; the figures themselves are the machine's and not asserted."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.calibration import calibrate as module
from scanflow_serve.runtime.calibration.calibrate import Calibration, calibrate
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.tensors import OutputKind
from scanflow_serve.runtime.variants import Candidate, Variant

CONTRACT = Path(__file__).parents[2] / "contract"
PolicyOf = Callable[..., PolicyFile]


def of(
    model: str, *, run: str = "classify", backend: str = "onnxruntime", threads: int = 1
) -> Candidate:
    return Candidate(run, (Variant(model, backend, "fp32", threads=threads),))


class Bench:
    """Calibrates on a fixed host, with a budget that is not spent."""

    def __init__(self, host: HostProfile, artifacts: Mapping[str, tuple[Artifact, ...]]) -> None:
        self.host = host
        self.artifacts = dict(artifacts)
        self.children = 0

    def __call__(
        self,
        policy_file: PolicyFile,
        *candidates: Candidate,
        budget_s: float = 60.0,
        recalibrate: bool = False,
        timeout_s: float | None = None,
        kinds: Mapping[str, OutputKind] | None = None,
    ) -> Calibration:
        return calibrate(
            policy_file,
            self.host,
            candidates,
            self.artifacts,
            budget_s=budget_s,
            recalibrate=recalibrate,
            timeout_s=timeout_s,
            kinds=kinds,
        )


@pytest.fixture
def bench(
    host: HostProfile,
    artifacts: Mapping[str, tuple[Artifact, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    bench = Bench(host, artifacts)
    run_child = module.run_child

    def counted(*args: object) -> object:
        bench.children += 1
        return run_child(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run_child", counted)
    return bench


def only(calibration: Calibration) -> Measurement:
    assert calibration.refused == {}
    (measurement,) = calibration.measured.values()
    return measurement


def test_candidate_has_every_figure(bench: Bench, policy_of: PolicyOf) -> None:
    outcome = bench(policy_of(), of("digits-mlp"))
    figures = only(outcome)
    assert list(figures.latency) == [1, 2, 4]
    assert 0 < figures.latency[1].p50_ms <= figures.latency[1].p95_ms
    assert figures.throughput_rps > 0
    assert figures.contention == 1.0  # calls of microseconds are made one after another
    assert figures.best_batch in (1, 2, 4)
    assert figures.load_s > 0
    assert figures.memory_mb > 0
    assert figures.size_mb == pytest.approx(bench.artifacts["digits-mlp"][0].size_bytes / 2**20)
    assert figures.accuracy == pytest.approx(0.970, abs=0.001)  # shared/contract/README.md
    assert figures.accuracy_rows == 300
    assert not figures.declared
    assert figures.kind == "logits"
    assert outcome.outputs["classify:digits-mlp/onnxruntime-fp32x1"]["logits"].shape == (64, 10)


def test_variants_of_one_model_give_outputs_that_can_be_compared(
    bench: Bench, policy_of: PolicyOf
) -> None:
    ort, ov = of("digits-cnn"), of("digits-cnn", backend="openvino")
    outcome = bench(policy_of(), ort, ov)
    np.testing.assert_allclose(
        outcome.outputs[ort.id]["logits"], outcome.outputs[ov.id]["logits"], rtol=1e-4, atol=1e-4
    )


def test_candidates_that_differ_in_threads_share_a_child(bench: Bench, policy_of: PolicyOf) -> None:
    one, two = of("digits-mlp"), of("digits-mlp", threads=2)
    outcome = bench(policy_of(), one, two)
    assert bench.children == 1
    assert outcome.measured[one.id].memory_mb == outcome.measured[two.id].memory_mb
    assert outcome.measured[one.id].accuracy == outcome.measured[two.id].accuracy
    assert outcome.measured[one.id].latency != outcome.measured[two.id].latency


def test_second_calibration_reads_the_first(bench: Bench, policy_of: PolicyOf) -> None:
    first = bench(policy_of(), of("digits-mlp"))
    second = bench(policy_of(), of("digits-mlp"))
    assert bench.children == 1
    assert second.measured == first.measured
    for candidate, outputs in second.outputs.items():
        np.testing.assert_array_equal(outputs["logits"], first.outputs[candidate]["logits"])


def test_recalibrating_measures_again(bench: Bench, policy_of: PolicyOf) -> None:
    bench(policy_of(), of("digits-mlp"))
    bench(policy_of(), of("digits-mlp"), recalibrate=True)
    assert bench.children == 2


def test_corrupt_measurement_is_made_again(
    bench: Bench, policy_of: PolicyOf, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench(policy_of(), of("digits-mlp"))
    (kept,) = (cache / "measurements").glob("*.json")
    kept.write_text("{")
    only(bench(policy_of(), of("digits-mlp")))
    assert bench.children == 2
    assert "Measurement ignored" in caplog.text


def test_without_validation_rows_are_generated(bench: Bench, policy_of: PolicyOf) -> None:
    outcome = bench(
        policy_of(validation=None, objective={"minimize": "latency_p95_ms"}), of("digits-mlp")
    )
    figures = only(outcome)
    assert figures.accuracy is None
    assert figures.accuracy_rows == 0
    (outputs,) = outcome.outputs.values()
    assert outputs["logits"].shape == (64, 10)


def test_declared_accuracy_stands_in_for_a_measured_one(bench: Bench, policy_of: PolicyOf) -> None:
    models = {
        name: {"source": f"models/{name}.onnx", "accuracy": 0.5}
        for name in ("digits-mlp", "digits-cnn")
    }
    declared = only(bench(policy_of(validation=None, models=models), of("digits-mlp")))
    assert (declared.accuracy, declared.declared) == (0.5, True)
    measured = only(bench(policy_of(models=models), of("digits-mlp")))
    assert measured.accuracy == pytest.approx(0.970, abs=0.001)
    assert not measured.declared


def test_output_that_can_not_be_told_leaves_the_reason_in_place_of_an_accuracy(
    bench: Bench, policy_of: PolicyOf
) -> None:
    path = policy_of().folder / "models" / "two.onnx"
    model = onnx.load(CONTRACT / "models" / "digits-mlp.onnx")
    model.graph.node.append(onnx.helper.make_node("Neg", ["logits"], ["scores"]))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", 10])
    )
    onnx.save(model, path)
    bench.artifacts["two"] = (tiny_models.artifact(path, registry.backend("onnxruntime")),)
    for output, accuracy in ((None, None), ("logits", pytest.approx(0.970, abs=0.001))):
        section = {"source": "models/two.onnx"} | ({"output": output} if output else {})
        steps = [{"model": "two"}]
        policy_file = policy_of(models={"two": section}, workflows={"classify": {"steps": steps}})
        figures = only(bench(policy_file, of("two")))
        assert figures.accuracy == accuracy
        assert ("Name the one that classifies with `output:`" in figures.unscored) is (
            output is None
        )


def test_slot_of_mixed_kinds_is_measured_as_it_is_served(bench: Bench, policy_of: PolicyOf) -> None:
    linear = CONTRACT / "models" / "digits-linear.onnx"
    bench.artifacts["digits-linear"] = (
        tiny_models.artifact(linear, registry.backend("onnxruntime")),
    )
    models = {name: {"source": f"models/{name}.onnx"} for name in ("digits-linear", "digits-mlp")}
    policy_file = policy_of(
        models=models, workflows={"classify": {"steps": [{"model": list(models)}]}}
    )
    mlp = of("digits-mlp")
    apart = bench(policy_file, mlp)
    assert only(apart).kind == "logits"
    kinds = {"digits-linear": "probabilities", "digits-mlp": "logits"}
    served = bench(policy_file, mlp, kinds=kinds)
    assert only(served).kind == "probabilities"
    (output,) = served.outputs[mlp.id].values()
    np.testing.assert_allclose(output.sum(axis=1), 1, atol=1e-5)
    assert only(served).accuracy == only(apart).accuracy


def test_single_model_is_measured_too(bench: Bench, policy_of: PolicyOf) -> None:
    figures = only(bench(policy_of(), of("digits-cnn", run="model:digits-cnn")))
    assert figures.accuracy == pytest.approx(0.990, abs=0.001)


def test_python_step_is_measured_and_what_it_prints_does_no_harm(
    bench: Bench, policy_of: PolicyOf
) -> None:
    policy_file = with_step(policy_of, 'print("noise")\n    return pixels')
    assert only(bench(policy_file, of("digits-mlp"))).latency[1].samples > 0


def test_changed_python_step_is_measured_again(bench: Bench, policy_of: PolicyOf) -> None:
    bench(with_step(policy_of, "return pixels"), of("digits-mlp"))
    bench(with_step(policy_of, "return pixels * 1"), of("digits-mlp"))
    assert bench.children == 2


def test_calls_that_wait_for_one_another_contend(bench: Bench, policy_of: PolicyOf) -> None:
    lock = "step.__dict__.setdefault('lock', __import__('threading').Lock())"
    pause = "time.sleep(0.001)"  # outside the lock, or its owner takes it again before the other
    body = f"with {lock}: time.sleep(0.02)\n    {pause}\n    return pixels"
    figures = only(bench(with_step(policy_of, body), of("digits-mlp")))
    assert figures.contention is not None
    assert 1.25 < figures.contention <= 2.0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"was ended by SIGKILL \(often: out of memory\)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"was ended by SIGSEGV"),
        ("sys.stderr.write('no such lamp\\n'); os._exit(3)", r"exit status 3: no such lamp\.$"),
        ("raise KeyError('lamp')", r"steps:step failed at .*KeyError: 'lamp'"),
    ],
)
def test_crash_is_a_refusal_and_calibration_goes_on(
    bench: Bench, policy_of: PolicyOf, body: str, says: str
) -> None:
    bad, good = of("digits-mlp"), of("digits-mlp", run="model:digits-mlp")
    outcome = bench(with_step(policy_of, body), bad, good)
    assert outcome.refused[bad.id].code == "failed"
    assert re.search(says, outcome.refused[bad.id].reason)
    assert list(outcome.measured) == [good.id]


def test_hanging_step_is_ended_with_what_it_started(
    bench: Bench, policy_of: PolicyOf, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    body = f"""
    child = subprocess.Popen(["sleep", "600"])
    open({str(pid_file)!r}, "w").write(str(child.pid))
    time.sleep(600)"""
    outcome = bench(with_step(policy_of, body), of("digits-mlp"), timeout_s=6.0)
    (refusal,) = outcome.refused.values()
    assert "did not finish in 6 s" in refusal.reason
    assert ended(int(pid_file.read_text()))


def test_failure_is_tried_again_next_time(bench: Bench, policy_of: PolicyOf) -> None:
    bench(with_step(policy_of, "os._exit(1)"), of("digits-mlp"))
    bench(with_step(policy_of, "os._exit(1)"), of("digits-mlp"))
    assert bench.children == 2


def test_crash_on_the_second_candidate_keeps_the_first(
    bench: Bench, policy_of: PolicyOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step dies once the first candidate's result lies in the job's folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    body = f"""import glob
    if glob.glob({str(tmp_path / "scanflow-calibration-*" / "0.json")!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    return pixels"""
    first, second = of("digits-mlp", threads=2), of("digits-mlp")
    outcome = bench(with_step(policy_of, body), first, second)
    assert list(outcome.measured) == [first.id]
    assert "SIGKILL" in outcome.refused[second.id].reason


def test_variant_that_the_backend_refuses_is_unsupported_and_remembered(
    bench: Bench, policy_of: PolicyOf
) -> None:
    candidate = Candidate("classify", (Variant("digits-mlp", "onnxruntime", "bf16"),))
    for _ in range(2):
        outcome = bench(policy_of(), candidate)
        assert outcome.refused[candidate.id].code == "unsupported"
        assert "'bf16'" in outcome.refused[candidate.id].reason
    assert bench.children == 1


@pytest.mark.parametrize(("backend", "device"), [("onnxruntime", "CUDA"), ("openvino", "GPU.1")])
def test_device_that_the_library_does_not_find_is_refused_and_calibration_goes_on(
    bench: Bench, policy_of: PolicyOf, backend: str, device: str
) -> None:
    absent = Candidate("classify", (Variant("digits-mlp", backend, "fp32", device=device),))
    outcome = bench(policy_of(), absent, of("digits-mlp"))
    assert outcome.refused[absent.id].code == "failed"  # tried again: a driver may come
    assert re.search(
        rf"must be one of CPU.*, got '{device}'. Install the ", outcome.refused[absent.id].reason
    )
    assert list(outcome.measured) == [of("digits-mlp").id]


def test_spent_budget_refuses_what_is_left_and_says_what_to_do(
    bench: Bench, policy_of: PolicyOf
) -> None:
    candidates = of("digits-mlp"), of("digits-cnn")
    outcome = bench(policy_of(), *candidates, budget_s=0.001)
    refused = outcome.refused[candidates[1].id]
    assert refused.code == "budget"
    assert "Raise measurement.budget_s" in refused.reason
    assert bench.children <= 1


def test_progress_tells_what_is_done_of_what_is_missing(
    policy_of: PolicyOf, host: HostProfile, artifacts: Mapping[str, tuple[Artifact, ...]]
) -> None:
    told: list[tuple[int, int, str]] = []
    candidates = [of("digits-mlp"), of("digits-mlp", threads=2), of("digits-cnn")]
    calibrate(
        policy_of(),
        host,
        candidates,
        artifacts,
        budget_s=60,
        progress=lambda done, total, label: told.append((done, total, label)),
    )
    assert [(done, total) for done, total, _ in told] == [(0, 3), (2, 3), (3, 3)]
    assert told[1][2] == candidates[2].id


def test_no_candidates_need_no_child(bench: Bench, policy_of: PolicyOf) -> None:
    assert bench(policy_of()) == Calibration()
    assert bench.children == 0


def with_step(policy_of: PolicyOf, body: str) -> PolicyFile:
    """The workflow ``classify`` with a Python step of that body before its model."""
    policy_file = policy_of(
        workflows={
            "classify": {
                "steps": [{"python": "steps:step"}, {"model": ["digits-mlp", "digits-cnn"]}]
            }
        }
    )
    source = f"import os, signal, subprocess, sys, time\n\ndef step(pixels):\n    {body.strip()}\n"
    (policy_file.folder / "steps.py").write_text(source)
    return policy_file


def ended(pid: int) -> bool:
    """Whether *pid* is gone, or only waits to be reaped by whoever inherited it."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
