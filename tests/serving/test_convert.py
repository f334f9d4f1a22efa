"""``scanflow-serve convert``, as people and machines call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import numpy as np
import pytest
import tiny_models
from live_server import CONSOLE_SCRIPT
from onnx import helper

from scanflow_serve.policies.schema import Precision
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.serving.commands.convert import convert as command

CONTRACT = Path(__file__).parents[1] / "contract"
ROWS = ("--data", CONTRACT / "data/digits-validation.npz", "--input", "pixels", "--target", "label")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def convert(
    cache: Path, *arguments: object, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [str(CONSOLE_SCRIPT), "convert", *map(str, arguments)]
    environ = {**os.environ, "SCANFLOW_CACHE": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=cwd)


def artifacts(cache: Path, *arguments: str) -> str:
    command = [str(CONSOLE_SCRIPT), "artifacts", *arguments]
    environ = {**os.environ, "SCANFLOW_CACHE": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=True).stdout


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
    said = "--data, --input, --target must be given with a model source, got the policy"
    assert said in done.stderr


NET = """
    import torch


    def net():
        layers = torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        return torch.nn.Sequential(*layers)
"""
SAVE = """
    import sys, warnings

    warnings.simplefilter("ignore")
    import joblib, numpy as np
    from nets import net
    from safetensors.torch import save_file
    from sklearn.linear_model import LogisticRegression

    save_file(net().state_dict(), "net.safetensors")
    rows = np.load(sys.argv[1])
    joblib.dump(LogisticRegression(max_iter=99).fit(rows["pixels"], rows["label"]), "net.joblib")
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "nets.py").write_text(dedent(NET))
    (folder / "save.py").write_text(dedent(SAVE))
    command = [sys.executable, "save.py", str(ROWS[1])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "rows.npz").write_bytes(Path(str(ROWS[1])).read_bytes())
    return folder


FACTORY = ("torch:nets:net", "--weights", "net.safetensors", "--inputs", "pixels:-1,64")
ONE = ("--backend", "onnxruntime", "--precision", "fp32", "--json")


def test_factory_is_converted_with_its_weights_and_inputs(cache: Path, sources: Path) -> None:
    found = results(convert(cache, *FACTORY, *ONE, cwd=sources))
    result = found["torch-nets-net/onnxruntime-fp32x1"]
    assert result["refusal"] is None
    assert result["weights"] == {"fp32": 1.0}
    assert Path(result["path"]).is_file()


def test_data_and_weights_beside_a_factory_are_found_from_its_folder(
    cache: Path, sources: Path
) -> None:
    rows = ("--data", "rows.npz", "--input", "pixels")
    found = results(convert(cache, *FACTORY, *rows, *ONE, cwd=sources))
    assert found["torch-nets-net/onnxruntime-fp32x1"]["refusal"] is None


def test_pickle_is_loaded_with_consent_only(cache: Path, sources: Path) -> None:
    refused = convert(cache, "net.joblib", *ONE, cwd=sources)
    assert refused.returncode == 1
    assert '--trust-pickle \\"I trust this file\\"' in refused.stdout
    trusted = ("--trust-pickle", "I trust this file")
    found = results(convert(cache, "net.joblib", *trusted, *ONE, cwd=sources))
    assert found["net/onnxruntime-fp32x1"]["refusal"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("net.joblib", "--weights", "net.safetensors"),
            "--weights must be given with torch:module:factory, got the source net.joblib",
        ),
        (("net.joblib", "--inputs", "pixels"), "--inputs must read NAME:SHAPE or NAME:SHAPE:DTYPE"),
        (("net.joblib", "--inputs", "pixels:-1,64:float8"), "got 'pixels:-1,64:float8'"),
        (
            ("net.joblib", "--trust-pickle", "yes"),
            "--trust-pickle must be the words 'I trust this file', got 'yes'",
        ),
        (
            ("torch:nets:net", "--weights", "../elsewhere.safetensors"),
            "where the source's module is sought, got ../elsewhere.safetensors",
        ),
        (
            ("policy.yaml", "--inputs", "x:-1", "--trust-pickle", "I trust this file"),
            "--inputs, --trust-pickle must be given with a model source, got the policy",
        ),
    ],
)
def test_option_that_does_not_fit_the_source_is_a_readable_error(
    cache: Path, sources: Path, arguments: tuple[str, ...], says: str
) -> None:
    (sources.parent / "elsewhere.safetensors").write_bytes(b"")
    done = convert(cache, *arguments, cwd=sources)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_precisions_are_those_that_a_policy_may_name() -> None:
    (option,) = (each for each in command.params if each.name == "precisions")
    assert option.type.choices == get_args(Precision)


def test_weights_are_halved_and_quartered_on_both_backends(cache: Path, tmp_path: Path) -> None:
    source = tiny_models.linear(tmp_path / "net.onnx", features=64, hidden=2048, classes=10)
    precisions = [f"--precision={each}" for each in ("fp32", "w16", "w8")]
    found = results(convert(cache, source, *precisions, "--json"))
    whole = source.stat().st_size / 2**20
    for backend in ("onnxruntime", "openvino"):
        for precision, share in {"w16": 0.5, "w8": 0.25}.items():
            result = found[f"net/{backend}-{precision}x1"]
            assert result["refusal"] is None
            assert result["size_mb"] == pytest.approx(whole * share, rel=0.15)


def test_table_says_what_an_int8_file_is_in_effect(tmp_path: Path) -> None:
    """Of an LSTM static quantisation takes the last layer only."""
    cache = tmp_path / "cache"
    random = np.random.default_rng(0)
    source = tiny_models.write(
        tmp_path / "net.onnx",
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            helper.make_node("LSTM", ["t", "w", "r"], ["", "h"], hidden_size=64),
            helper.make_node("Squeeze", ["h", "first"], ["s"]),
            helper.make_node("MatMul", ["s", "head"], ["y"]),
        ],
        {"x": ("float32", ["batch", 8, 8])},
        {"y": ("float32", ["batch", 10])},
        {
            "w": random.normal(size=(1, 256, 8)).astype(np.float32) / 4,
            "r": random.normal(size=(1, 256, 64)).astype(np.float32) / 8,
            "head": random.normal(size=(64, 10)).astype(np.float32),
            "first": np.array([0], np.int64),
        },
    )
    np.savez(tmp_path / "rows.npz", x=random.random((64, 8, 8)).astype(np.float32))
    given = ("--data", tmp_path / "rows.npz", "--backend", "onnxruntime", "--precision", "int8")
    done = convert(cache, source, *given)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "ok, but most weights could not be converted: fp32 97%, int8 3%" in said
    listed = artifacts(cache, "list", "--json")
    (entry,) = (e for e in json.loads(listed)["artifacts"] if e["artifact"]["model"] == "net")
    shown = " ".join(artifacts(cache, "show", entry["key"]).split())
    assert "executed in onnxruntime fp32 weights fp32 96.6%, int8 3.4%" in shown
