"""``scanflow-serve convert``, as people and machines call it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from live_server import CONSOLE_SCRIPT

from scanflow_serve.runtime.host.profile import profile_host

CONTRACT = Path(__file__).parents[1] / "contract"
ROWS = ("--data", CONTRACT / "data/digits-validation.npz", "--input", "pixels", "--target", "label")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def convert(cache: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(CONSOLE_SCRIPT), "convert", *map(str, arguments)]
    environ = {**os.environ, "SCANFLOW_CACHE": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, env=environ)


def results(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return {each["variant"]: each for each in json.loads(done.stdout)["results"]}


def test_file_becomes_int8_with_figures_and_a_second_call_finds_it(
    cache: Path, tmp_path: Path
) -> None:
    source = CONTRACT / "models/digits-cnn.onnx"
    only = ("--backend", "onnxruntime", "--precision", "fp32", "--precision", "int8")
    done = convert(cache, source, *only, *ROWS, "-o", tmp_path, "--json")
    found = results(done)
    whole, small = (found[f"digits-cnn/onnxruntime-{each}x1"] for each in ("fp32", "int8"))
    assert whole["speed_up"] == 1.0
    assert small["size_mb"] < whole["size_mb"] / 2
    assert small["p50_ms"] > 0
    assert small["agreement"] > 0.97
    assert abs(small["drop"]) <= 0.01
    assert small["refusal"] is None
    assert (tmp_path / "digits-cnn-onnx-int8" / "manifest.json").is_file()
    again = results(convert(cache, source, *only, *ROWS, "--json"))
    assert again["digits-cnn/onnxruntime-int8x1"]["key"] == small["key"]


def test_table_prints_a_row_for_each_variant_with_its_verdict(cache: Path) -> None:
    done = convert(cache, CONTRACT / "models/digits-mlp.onnx", "--backend", "onnxruntime", *ROWS)
    assert done.returncode == 0, done.stderr
    head = next(line for line in done.stdout.splitlines() if "verdict" in line)
    for column in ("size, MB", "p50, ms", "speed-up", "accuracy", "drop", "agreement"):
        assert column in head
    assert "digits-mlp/onnxruntime-int8x1" in done.stdout
    assert "100.0%" in done.stdout


def test_for_another_host_nothing_is_measured(cache: Path, tmp_path: Path) -> None:
    host = tmp_path / "pi.json"
    profile = profile_host().to_json()
    profile["arch"], profile["cpu"] = (
        "aarch64",
        profile["cpu"] | {"features": ["neon", "asimd"], "cores": 4.0},
    )
    host.write_text(json.dumps(profile))
    source = CONTRACT / "models/digits-mlp.onnx"
    found = results(convert(cache, source, "--for", host, "--precision", "int8", *ROWS, "--json"))
    assert set(found) == {"digits-mlp/onnxruntime-int8x1", "digits-mlp/openvino-int8x1"}
    for each in found.values():
        assert each["refusal"] is None
        assert each["p50_ms"] is None
        assert each["accuracy"] > 0.95
        assert Path(each["path"]).is_file()


def test_source_of_which_nothing_may_be_served_fails_with_the_reason(
    cache: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "net.onnx"
    broken.write_bytes((CONTRACT / "models/digits-mlp.onnx").read_bytes()[:-200])
    done = convert(cache, broken)
    assert done.returncode == 1
    assert "refused: " in done.stdout
    assert "Export or copy the model again." in " ".join(done.stdout.split())


def test_data_beside_a_policy_is_refused(cache: Path) -> None:
    done = convert(cache, CONTRACT / "quickstart.yaml", *ROWS)
    assert done.returncode == 2
    assert "--data must be given with a model source" in done.stderr
