from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from origin_worlds import Find, assert_answers_alike

from scanflow_serve.policies.errors import ArtifactError, MissingExtraError, PolicyError


def test_onnx_file_is_taken_as_it_lies(find: Find, folder: Path, tmp_path: Path) -> None:
    path = tiny_models.linear(folder / "net.onnx")
    origin = find("net.onnx")
    exported = origin.export(tmp_path / "out")
    assert exported.path == path
    assert origin.lineage is None
    assert_answers_alike(origin, exported, {"x": np.ones((70, 4), np.float32)})


def test_onnx_of_a_fixed_batch_answers_any_number_of_rows(find: Find, folder: Path) -> None:
    tiny_models.linear(folder / "fixed.onnx", batch=4)
    tiny_models.linear(folder / "any.onnx")
    rows = {"x": np.random.default_rng(0).random((10, 4), dtype=np.float32)}
    (fixed,) = find("fixed.onnx").reference(rows).values()
    (expected,) = find("any.onnx").reference(rows).values()
    np.testing.assert_allclose(fixed, expected, rtol=1e-5)


def test_openvino_ir_answers(find: Find, folder: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    path = tiny_models.linear(folder / "net.onnx")
    openvino.save_model(openvino.convert_model(path), folder / "net.xml", compress_to_fp16=False)
    rows = {"x": np.random.default_rng(0).random((3, 4), dtype=np.float32)}
    origin = find("net.xml")
    (answer,) = origin.reference(rows).values()
    (expected,) = find("net.onnx").reference(rows).values()
    np.testing.assert_allclose(answer, expected, rtol=1e-5)
    assert origin.kind == "openvino"
    assert origin.export(tmp_path / "out").path == folder / "net.xml"


def test_text_inputs_reach_the_original_and_come_back(find: Find, folder: Path) -> None:
    tiny_models.identity(folder / "net.onnx", "str", ("batch", 1))
    rows = np.array([["straße"], [""]], dtype=object)
    np.testing.assert_array_equal(find("net.onnx").reference({"x": rows})["y"], rows)


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        ("net.h5", ArtifactError, r"must end in one of \.onnx, .* got 'net\.h5'"),
        ("gone.onnx", ArtifactError, "must be a file, got none"),
        ("../net.onnx", PolicyError, "inside the policy's folder"),
        ("models:/net", ArtifactError, "must read models:/NAME/VERSION"),
        ("models:/net/v1", ArtifactError, "must read models:/NAME/VERSION"),
        ("runs:/short/model", ArtifactError, "must read models:/NAME/VERSION"),
    ],
)
def test_source_that_is_no_model_is_refused(
    find: Find, source: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        find(source)


def test_mlflow_source_without_a_server_says_where_to_name_it(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ArtifactError, match=r"track: \{uri: http://HOST:5000\}"):
        find("models:/net/1")


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [("net.skops", "skops", "convert"), ("net.pt2", "torch", "convert")],
)
def test_missing_extra_is_named(
    find: Find, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, missing: str, extra: str,
) -> None:  # fmt: skip
    lack(monkeypatch, missing)
    (folder / name).touch()
    with pytest.raises(MissingExtraError, match=rf"pip install 'scanflow-serve\[{extra}\]'"):
        find(name).export(tmp_path / "out")


def test_mlflow_source_without_mlflow_names_its_extra(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack(monkeypatch, "mlflow")
    with pytest.raises(MissingExtraError, match=r"pip install 'scanflow-serve\[track\]'"):
        find("models:/net/1", track="http://127.0.0.1:1")


def lack(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == missing else real(name, *a)
    )


def test_weights_without_a_factory_are_refused_by_the_policy(find: Find) -> None:
    keys: dict[str, Any] = {"weights": "net.pt"}
    with pytest.raises(ValueError, match="must have weights only beside source torch:"):
        find("net.onnx", **keys)


def test_consent_must_be_given_in_these_words(find: Find) -> None:
    with pytest.raises(ValueError, match="I trust this file"):
        find("net.pkl", trust_pickle="yes")
