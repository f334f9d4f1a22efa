"""What the weights of a file are stored in is counted, not believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
import tiny_models
from onnx import helper

from scanflow_serve.converters import runner
from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.onnx_structure import read_structure
from scanflow_serve.converters.routes import Form, installed_tools, route
from scanflow_serve.converters.sources import file_artifact
from scanflow_serve.converters.weights import effective, shares
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.artifacts import Artifact, Format
from scanflow_serve.runtime.measurements import Refusal

VNNI = frozenset({"avx2", "avx512_vnni"})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))


def recurrent(path: Path) -> Path:
    """An LSTM of 20,480 weights, and a head of 640."""
    random = np.random.default_rng(0)
    return tiny_models.write(
        path,
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            helper.make_node("LSTM", ["t", "w", "r"], ["", "h"], hidden_size=64),
            helper.make_node("Squeeze", ["h", "first"], ["s"]),
            helper.make_node("MatMul", ["s", "head"], ["y"]),
        ],
        {"x": ("float32", ["batch", 8, 16])},
        {"y": ("float32", ["batch", 10])},
        {
            "w": random.normal(size=(1, 256, 16)).astype(np.float32) / 4,
            "r": random.normal(size=(1, 256, 64)).astype(np.float32) / 8,
            "head": random.normal(size=(64, 10)).astype(np.float32),
            "first": np.array([0], np.int64),
        },
    )


def converted(source: Path, folder: Path, goal: Form, rows: bool = True) -> Artifact:
    steps = route(Form("onnx", "fp32"), goal, installed=installed_tools(), data=rows, features=VNNI)
    assert not isinstance(steps, Refusal), steps
    calibration = {"x": np.random.default_rng(1).random((20, 8, 16)).astype(np.float32)}
    folder.mkdir()
    path = runner.convert(steps, source, folder, Context(calibration if rows else None, VNNI))
    return replace(file_artifact("net", path, folder), precision=goal.precision)


@pytest.mark.slow
def test_static_int8_of_a_recurrent_network_holds_its_head_only_and_says_so(
    tmp_path: Path,
) -> None:
    source = recurrent(tmp_path / "net.onnx")
    found = shares(converted(source, tmp_path / "static", Form("onnx", "int8")))
    assert found["int8"] < 0.05
    assert found["fp32"] > 0.95
    assert effective("int8", found) == "fp32"
    live = shares(converted(source, tmp_path / "live", Form("onnx", "int8"), rows=False))
    assert live["int8"] > 0.95
    assert effective("int8", live) == "int8"


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["onnx", "openvino"])
def test_weights_in_fewer_bits_are_counted_in_both_formats(tmp_path: Path, format_: Format) -> None:
    source = tiny_models.linear(tmp_path / "net.onnx", features=64, classes=64, hidden=64)
    whole = shares(file_artifact("net", source, tmp_path))
    assert whole == {"fp32": 1.0}
    for precision, kind in {"w8": "int8", "w16": "fp16"}.items():
        made = converted(source, tmp_path / precision, Form(format_, precision), rows=False)
        found = shares(made)
        assert next(iter(found)) == kind
        assert found[kind] > 0.95
        assert sum(found.values()) == pytest.approx(1, abs=1e-3)
        assert effective(precision, found) == precision


def test_file_whose_weights_alone_are_int8_is_known_from_one_that_computes_in_it(
    tmp_path: Path,
) -> None:
    weights = {"q": np.ones((64, 64), np.int8), "s": np.ones(1, np.float32)}
    widened = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    live = [helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"])]
    of: tuple[str, list[int | str]] = ("float32", ["batch", 64])
    for nodes, wanted in ((widened, "w8"), ([*live, *widened], "int8")):
        path = tiny_models.write(tmp_path / f"{wanted}.onnx", nodes, {"x": of}, {"y": of}, weights)
        assert read_structure(path).precision == wanted


def test_ir_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    source = tiny_models.linear(tmp_path / "net.onnx")
    openvino.save_model(openvino.convert_model(source), tmp_path / "net.xml")
    artifact = file_artifact("net", tmp_path / "net.xml", tmp_path)
    artifact.path.write_bytes(artifact.path.read_bytes()[:300])
    with pytest.raises(ArtifactError, match=r"net\.xml: must be OpenVINO IR, got .*Convert it"):
        shares(artifact)


def test_file_without_weights_is_what_was_asked_for() -> None:
    assert effective("fp16", {}) == "fp16"
