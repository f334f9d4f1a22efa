"""Converted where torch is, published, and served where it is not: through a real MLflow server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_server import CONSOLE_SCRIPT, server
from registry_worlds import Mlflow, converted, mlflow_server
from source_worlds import rows, save_everywhere, write_policy

from scanflow_serve.converters.origins.kinds import find_origin
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.store import ArtifactStore

pytestmark = pytest.mark.slow
CONVERTERS = (
    *("torch", "nncf", "onnx", "onnxscript", "onnxslim", "onnx_ir", "skl2onnx", "onnxmltools"),
    *("sklearn", "skops", "safetensors", "pandas", "scipy", "xgboost", "lightgbm"),
)
INT8 = {"backends": ["onnxruntime"], "precisions": ["fp32", "int8"], "threads": [1]}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy's folder; the server has the models it names."""
    place = tmp_path_factory.mktemp("policy")
    save_everywhere(place, mlflow.uri)
    return place


@pytest.fixture
def device(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has no converter, and nothing in its cache."""
    blocked = tmp_path / "no-converters"
    blocked.mkdir()
    code = f"import sys\nsys.modules.update(dict.fromkeys({CONVERTERS!r}))\n"
    (blocked / "sitecustomize.py").write_text(code)
    paths = os.pathsep.join(filter(None, (str(blocked), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": paths, "SCANFLOW_CACHE": str(tmp_path / "device")}


def scanflow(
    environ: dict[str, str], *arguments: object, code: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [str(CONSOLE_SCRIPT), *map(str, arguments)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | environ
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=600)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def of_registry(folder: Path, uri: str, source: str) -> Path:
    """Write a policy of one model from the registry, which may be int8."""
    return write_policy(
        folder,
        {"net": {"source": source, "variants": INT8}},
        track={"uri": uri},
        calibration={"data": "digits.npz", "input": "pixels"},
        objective={"minimize": "size_mb"},
    )


def test_device_without_converters_serves_what_was_converted_elsewhere(
    mlflow: Mlflow, folder: Path, device: dict[str, str], tmp_path: Path
) -> None:
    policy = of_registry(folder, mlflow.uri, "models:/net/1")
    told = scanflow(device, "run", policy, "--port", "0", code=1).stderr
    host, maker = tmp_path / "host.json", {"SCANFLOW_CACHE": str(tmp_path / "maker")}
    for line in (
        "pip install 'scanflow-serve[convert]'",
        "models:/net/1: a converted model of format onnx or openvino must be in the registry",
        "scanflow-serve profile --json > host.json",
        f"export MLFLOW_TRACKING_URI={mlflow.uri}",
        f"scanflow-serve convert {policy.name} --for host.json",
        "scanflow-serve artifacts publish KEY --to models:/net",
    ):
        assert line in told
    # What it was told is done, with a KEY for each that is listed.
    host.write_text(scanflow(device, "profile", "--json").stdout)
    scanflow(maker, "convert", policy, "--for", host)
    listed = json.loads(scanflow(maker, "artifacts", "list", "--json").stdout)["artifacts"]
    keys = {each["key"] for each in listed}
    for key in keys:
        where = ("--to", "models:/net", "--tracking-uri", mlflow.uri)
        scanflow(maker, "artifacts", "publish", key, *where)
    assert len(keys) == 2
    pixels, labels = rows(50)
    with server(policy, state=tmp_path / "state", environ=device) as running:
        answer = running.predict(pixels.tolist())
        assert answer["variant"] == "net/onnxruntime-int8x1"
        assert np.mean([int(label) for label in answer["label"]] == labels) > 0.9
        assert "to ONNX" not in running.log.read_text()
    held = {entry.key: entry.artifact for entry in ArtifactStore(tmp_path / "device/store").list()}
    assert held.keys() == keys
    for artifact in held.values():
        assert artifact is not None
        assert artifact.manifest.lineage == "models:/net/1"
        assert artifact.manifest.verification["accuracy"]["drop"] <= 0.01


def test_artifact_of_another_source_is_not_taken_for_the_policys(
    mlflow: Mlflow, folder: Path, device: dict[str, str], tmp_path: Path
) -> None:
    """Its tags say what it was made of; its manifest tells other bytes."""
    maker = ArtifactStore(tmp_path / "maker" / "store")
    other = converted(maker, "models:/clf/1")
    where = ("--to", "models:/clf", "--tracking-uri", mlflow.uri)
    scanflow({"SCANFLOW_CACHE": str(maker.folder.parent)}, "artifacts", "publish", other.id, *where)
    policy = of_registry(folder, mlflow.uri, "models:/clf/1")
    told = scanflow(device, "run", policy, "--port", "0", code=1).stderr
    assert (
        "models:/clf/1: a converted model of fp32 in format any and of these very bytes must "
        "be in the registry for the host, got onnx fp32."
    ) in told, told


def test_latest_version_is_the_last_source_and_a_published_ir_is_one_by_its_alias(
    mlflow: Mlflow, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = ArtifactStore(tmp_path / "maker" / "store")
    made = converted(maker, "models:/onnx/1", "openvino")
    where = ("--to", "models:/onnx", "--tracking-uri", mlflow.uri, "--alias", "board")
    scanflow({"SCANFLOW_CACHE": str(maker.folder.parent)}, "artifacts", "publish", made.id, *where)
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
    for source, version, kind, width, classes in (
        ("models:/onnx/latest", "1", "onnx", 64, 10),
        ("models:/onnx@board", "2", "openvino", 4, 3),
    ):
        policy_file = load_policy(of_registry(folder, mlflow.uri, source))
        origin = find_origin("net", policy_file.policy.models["net"], policy_file)
        assert origin.kind == kind
        assert origin.lineage is not None
        assert origin.lineage.address == f"models:/onnx/{version}"
        name = "pixels" if kind == "onnx" else "x"
        answer = origin.reference({name: np.ones((3, width), np.float32)})
        assert answer["logits"].shape == (3, classes)
