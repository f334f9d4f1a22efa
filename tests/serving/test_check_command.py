"""``scanflow-serve check``: the very checks of the server, over a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checks_worlds import inverted, stream

from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.checks.batches import batches
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.tap import Tapped
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.prediction_ids import prediction_ids
from scanflow_serve.serving import composition
from scanflow_serve.serving.checks import subject_of
from scanflow_serve.serving.cli import main

CHECKS = """
checks:
  - integrity: {on_fail: flag}
  - drift: {method: pca, reference: data/digits-train.npz, input: pixels}
  - balance: {reference: data/digits-validation.npz, target: label}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def policy(contract: Path) -> Path:
    path = contract / "quickstart.yaml"
    path.write_text(f"{path.read_text()}\n{CHECKS}")
    return path


def check(policy: Path, rows: np.ndarray, folder: Path, *options: str) -> int:
    data = folder / "rows.npz"
    np.savez(data, pixels=rows.astype(np.float32))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(policy), "--data", str(data), *options])
    return int(ended.value.code or 0)


def test_clean_rows_pass(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(policy, stream(1, 300), tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["run_length"]) == (300, 10_000)
    assert [each["name"] for each in told["checks"]] == ["integrity", "drift", "balance"]
    assert {each["state"] for each in told["checks"]} <= {"ok", "warn"}


def test_drifted_rows_fail_and_the_table_says_since_which_row(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.concatenate([stream(1, 200), inverted(stream(2, 100))])
    assert check(policy, rows, tmp_path, "--json") == 1
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert told["drift"]["state"] == "alarm"
    assert abs(int(told["drift"]["evidence"]["since"]) - 200) <= 3
    assert check(policy, rows, tmp_path) == 1
    table = capsys.readouterr().out
    assert "300 rows: alarm" in table
    assert "pca: pixels[" in table


def test_domain_classifier_tells_by_what_rows_differ(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(policy, inverted(stream(2, 100)), tmp_path, "--classifier") == 1
    line = capsys.readouterr().out.rpartition("domain classifier: tells 100 rows from")[2]
    assert "with AUC 1.000" in line
    assert "by pixels[" in line
    assert check(policy, stream(3, 100), tmp_path, "--classifier", "--json") == 0
    told = json.loads(capsys.readouterr().out)["domain_classifier"]
    assert told["p_val"] > 0.001


def replicas(policy: Path, parts: dict[str, np.ndarray], folder: Path) -> list[str]:
    """Return the options that name replicas which saw the *parts*, each in a folder of its own."""
    engine = Engine(composition.prepared(load_policy(policy), profile_host()))
    pipeline = engine.served("digits").pipeline
    for name, rows in parts.items():
        host = Host(subject_of(engine), folder / name, lambda _: None)
        host.arm()
        inputs = {"pixels": rows.astype(np.float32)}
        variant = pipeline.candidate.variant_id
        told = (pipeline.run(inputs), pipeline.output, pipeline.kind, variant, 0.0, "", 0)
        host.process(batches([Tapped(prediction_ids(len(rows)), inputs, *told)]), 1)
        host.checkpoint(force=True)
        host.close()
    engine.close()
    return [each for name in parts for each in ("--merge", str(folder / name))]


def test_replicas_stand_together(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"a": stream(1, 30), "b": inverted(stream(2, 30))}
    options = replicas(policy, parts, tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["check", str(policy), *options, "--json"])
    assert ended.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["rows"]) == ("alarm", 60)
    drift = next(each for each in told["checks"] if each["name"] == "drift")
    assert drift["state"] == "alarm"
    assert drift["evidence"]["since"]


@pytest.mark.parametrize("both", [False, True])
def test_neither_or_both_of_file_and_replicas_are_a_usage_error(
    policy: Path, tmp_path: Path, both: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(policy), "--merge", str(tmp_path)] if both else []
    with pytest.raises(SystemExit) as ended:
        main(["check", str(policy), *options])
    assert ended.value.code == 2
    assert "Give --data FILE, or --merge STATE once for each replica" in capsys.readouterr().err


def test_policy_without_checks_is_told_so(
    contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(contract / "quickstart.yaml", stream(1, 10), tmp_path) == 2
    assert "checks must not be empty" in capsys.readouterr().err


def test_run_length_that_the_reference_does_not_honour_is_a_load_error(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = policy.read_text().replace("method: pca", "method: pca, expected_run_length: 50000")
    policy.write_text(text)
    assert check(policy, stream(1, 10), tmp_path) == 2
    assert "Give 1000 calibration rows, that is 3334 reference rows" in capsys.readouterr().err
