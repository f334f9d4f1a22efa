"""`simulate`: from a policy and recorded figures to a table, JSON and a picture."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planning_worlds import host, measurement

from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime import prepare as preparation
from scanflow_serve.runtime.elsewhere import plan_for
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.measurements import Latency, Measurement, Measurements
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.record import Record
from scanflow_serve.serving import cli

PI = host(2, kind="raspberry-pi", arch="aarch64")
CNN = "classify:digits-cnn/onnxruntime-fp32x1"
MLP = "classify:digits-mlp/onnxruntime-fp32x1"


def figures(call_ms: float, row_ms: float, accuracy: float) -> Measurement:
    latency = {
        rows: Latency(call_ms + rows * row_ms, (call_ms + rows * row_ms) * 1.1, 100)
        for rows in (1, 4, 16)
    }
    return measurement(accuracy=accuracy, latency=latency)


FOUND = {CNN: figures(1.0, 9.0, 0.99), MLP: figures(0.5, 1.5, 0.95)}


@pytest.fixture
def policy(contract: Path) -> Path:
    """The contract's quickstart; FOUND holds its figures on a Raspberry Pi."""
    return contract / "quickstart.yaml"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "pi-figures.json"
    record = Record("digits", PI, Measurements(PI.fingerprint, FOUND))
    path.write_text(json.dumps(record.to_json()))
    return path


def simulate(*arguments: str | Path) -> int:
    """Return the exit code of ``scanflow-serve simulate`` with *arguments*."""
    with pytest.raises(SystemExit) as done:
        cli.main(["simulate", *map(str, arguments)])
    return done.value.code if isinstance(done.value.code, int) else 1


def answered(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert simulate(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_comparison_is_a_row_for_each_strategy_and_the_bound(
    policy: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = "gamma:rate=150,cv2=4,seconds=8"
    arguments = (policy, "--trace", load, "--measurements", recorded, "--compare")
    found = answered(capsys, *arguments)
    results = {each["strategy"]: each for each in found["results"]}
    alone = [text.partition(":")[2] for text in (CNN, MLP)]
    assert list(results) == ["scheduler", "slack only", "rate thresholds", *alone]
    ours = results["scheduler"]["effective_accuracy"]
    for each in results.values():
        assert each["requests"] == found["requests"]
        assert found["optimum"] >= each["effective_accuracy"]
    assert ours > max(results[name]["effective_accuracy"] for name in alone)
    assert results[alone[0]]["misses"] > 0.05
    assert (found["cores"], found["deadline_ms"], found["host"]) == (2, 20, PI.fingerprint)
    assert found["options"] == [CNN, MLP]
    assert simulate(*arguments) == 0
    shown = capsys.readouterr().out
    for name in (*results, "no strategy exceeds", f"{ours:.4f}", f"{found['optimum']:.4f}"):
        assert name in shown


def test_seed_decides_what_comes_out(
    policy: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ("--trace", "poisson:rate=100,seconds=3", "--measurements", recorded)
    found = [answered(capsys, policy, *load, "--seed", seed) for seed in ("1", "1", "2")]
    assert found[0] == found[1]
    assert found[0]["results"] != found[2]["results"]


def test_trace_file_deadline_and_overhead_are_as_given(
    policy: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,deadline_ms\n" + "".join(f"{n},\n" for n in range(9)) + "9,1\n")
    given = (policy, "--measurements", recorded, "--trace", trace, "--deadline-ms", "60")
    found = answered(capsys, *given, "--overhead-ms", "12", "--seconds", "30")
    (ours,) = found["results"]
    assert (found["requests"], found["length_s"], found["deadline_ms"]) == (10, 9.0, 60)
    assert ours["refused"] == pytest.approx(0.1)  # the last can't be met
    assert ours["p50_ms"] == pytest.approx(22, abs=1.5)  # 10 of the call, 12 of overhead
    assert found["optimum"] is None
    assert answered(capsys, *given, "--seconds", "4.5")["requests"] == 5


def test_figures_without_contention_are_said_to_be(
    policy: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (policy, "--trace", "poisson:rate=200,seconds=2", "--measurements")
    old = answered(capsys, *given, recorded)
    assert "slow each other down was not measured" in " ".join(old["notes"])
    known = {key: replace(each, contention=1.8) for key, each in FOUND.items()}
    path = tmp_path / "new.json"
    path.write_text(json.dumps(Record("digits", PI, Measurements(PI.fingerprint, known)).to_json()))
    new = answered(capsys, *given, path)
    assert new["notes"] == []
    assert new["results"][0]["effective_accuracy"] < old["results"][0]["effective_accuracy"]


def test_plan_that_is_served_is_the_one_that_is_simulated(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured where the state folder has a plan for this host."""
    policy_file, here = load_policy(policy), profile_host()
    known = Measurements(here.fingerprint, FOUND)
    plan = plan_for(policy_file, here, known)
    kept = Prepared(policy_file, here, plan, {}, known, {})
    preparation.save(kept, policy_file.folder / "state" / "digits")
    found = answered(capsys, policy, "--trace", "poisson:rate=20,seconds=2")
    assert found["options"] == [CNN, MLP]
    assert found["host"] == here.fingerprint


def test_plot_is_written_beside_the_table(
    policy: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "run.svg"
    load = ("--trace", "step:low=20,high=200,at=2,seconds=4", "--measurements", recorded)
    assert simulate(policy, *load, "--plot", picture) == 0
    assert f"wrote {picture}" in capsys.readouterr().out
    assert "digits-mlp/onnxruntime-fp32x1" in picture.read_text()


def test_table_is_printed_before_a_missing_extra_is_told(
    policy: Path,
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("scipy.optimize", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    load = ("--trace", "poisson:rate=20,seconds=2", "--measurements", recorded)
    assert simulate(policy, *load, "--compare", "--plot", tmp_path / "run.svg") == 1
    shown = capsys.readouterr()
    assert "rate thresholds" in shown.out
    assert "no strategy exceeds" not in shown.out
    assert "The bound of all strategies was not computed. scipy is not installed." in shown.err
    assert "matplotlib is not installed. Run: pip install 'scanflow-serve[simulate]'" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trace", "poisson:rate=x"], "--trace: poisson: rate: Input should be a valid number"),
        (["--trace", "nowhere.csv"], "nowhere.csv: must be readable, got 'No such file"),
        (["--trace", "poisson:rate=1", "--plot", "a.pdf"], "--plot: must end with .svg or .png"),
        (["--trace", "poisson:rate=1", "--deadline-ms", "0"], "0.0 is not in the range x>0"),
        ([], "Missing option '--trace'"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_measured(
    policy: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(policy, *arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "measuring" not in shown.err
