from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import helper

from scanflow_serve.converters.sources import ingest
from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import ArtifactError, PolicyError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.tensors import TensorSpec

CONTRACT_MODELS = Path(__file__).parents[1] / "contract" / "models"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def policy_file(tmp_path: Path) -> PolicyFile:
    folder = tmp_path / "policy"
    (folder / "models").mkdir(parents=True)
    policy = schema.Policy.model_validate(
        {
            "apiVersion": "scanflow/v1",
            "name": "p",
            "models": {"net": {"source": "models/net.onnx"}},
            "workflows": {"w": {"steps": [{"model": "net"}]}},
            "targets": [{"run": "w"}],
            "objective": {"minimize": "latency_p95_ms"},
        }
    )
    return PolicyFile(policy, folder / "p.yaml", folder.resolve(), "", "")


def model(source: str = "models/net.onnx") -> schema.Model:
    return schema.Model(source=source)


def save_external(folder: Path, location: str) -> Path:
    path = tiny_models.linear(folder / "net.onnx", features=64, classes=64)
    loaded = onnx.load(path)
    onnx.save(loaded, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    moved = onnx.load(path, load_external_data=False)
    for entry in moved.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(moved.SerializeToString())
    return path


def test_onnx_file_is_served_as_it_stands(policy_file: PolicyFile) -> None:
    path = tiny_models.linear(policy_file.folder / "models/net.onnx")
    artifact = ingest("net", model(), policy_file)
    assert artifact.path == path.resolve()
    assert (artifact.model, artifact.format, artifact.precision) == ("net", "onnx", "fp32")
    assert artifact.size_bytes == path.stat().st_size
    assert artifact.signature.inputs == (TensorSpec("x", "float32", (None, 4)),)
    assert artifact.manifest.source == "models/net.onnx"
    assert artifact.manifest.route == ()


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "cnn-large"])
def test_models_of_the_contract_are_taken(policy_file: PolicyFile, name: str) -> None:
    """OpenVINO lacks an operator of the scikit-learn pipeline; another backend reads it."""
    target = policy_file.folder / "models/net.onnx"
    target.write_bytes((CONTRACT_MODELS / f"digits-{name}.onnx").read_bytes())
    assert ingest("net", model(), policy_file).signature.inputs[0].shape == (None, 64)


def test_id_follows_the_content_not_the_place(policy_file: PolicyFile) -> None:
    models = policy_file.folder / "models"
    tiny_models.linear(models / "net.onnx")
    tiny_models.linear(models / "copy.onnx")
    tiny_models.linear(models / "other.onnx", classes=5)
    ids = [
        ingest("net", model(f"models/{name}.onnx"), policy_file).id
        for name in ("net", "copy", "other")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_second_start_does_not_load_the_model(
    policy_file: PolicyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_models.linear(policy_file.folder / "models/net.onnx")
    first = ingest("net", model(), policy_file)
    monkeypatch.setattr(registry, "BACKENDS", {})
    assert ingest("net", model(), policy_file) == first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"signature": {}, "tools": {}}'])
def test_corrupt_cache_is_written_again(
    policy_file: PolicyFile, cache: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_models.linear(policy_file.folder / "models/net.onnx")
    first = ingest("net", model(), policy_file)
    (kept,) = (cache / "artifacts").glob("*.json")
    kept.write_text(text)
    assert ingest("net", model(), policy_file) == first
    assert "ignored and written again" in caplog.text
    assert json.loads(kept.read_text())["tools"]


@pytest.mark.parametrize(
    "source", ["torch:net:make", "models:/net/1", "runs:/abc/model", "net.pt2", "net.joblib"]
)
def test_other_kinds_of_source_are_refused_with_the_way_out(
    policy_file: PolicyFile, source: str
) -> None:
    with pytest.raises(ArtifactError, match=r"must be an ONNX file .* Convert it: scanflow-serve"):
        ingest("net", model(source), policy_file)


def test_source_outside_of_the_policys_folder_is_refused(policy_file: PolicyFile) -> None:
    tiny_models.linear(policy_file.folder.parent / "net.onnx")
    with pytest.raises(PolicyError, match=r"net\.onnx"):
        ingest("net", model("../net.onnx"), policy_file)


def test_missing_file_is_named(policy_file: PolicyFile) -> None:
    with pytest.raises(ArtifactError, match=r"net\.onnx: must be the file of model 'net'"):
        ingest("net", model(), policy_file)


@pytest.mark.parametrize("size", [0, 1, 100, 3000])
def test_cut_file_is_refused(policy_file: PolicyFile, size: int) -> None:
    whole = (CONTRACT_MODELS / "digits-linear.onnx").read_bytes()
    (policy_file.folder / "models/net.onnx").write_bytes(whole[:size])
    with pytest.raises(ArtifactError, match=r"net\.onnx: must be an ONNX"):
        ingest("net", model(), policy_file)


def test_file_that_is_not_onnx_is_refused(policy_file: PolicyFile) -> None:
    (policy_file.folder / "models/net.onnx").write_text("version https://git-lfs.github.com")
    with pytest.raises(ArtifactError, match=r"net\.onnx: must be an ONNX file"):
        ingest("net", model(), policy_file)


def test_file_nested_deeper_than_python_goes_is_refused(policy_file: PolicyFile) -> None:
    def message(field: int, body: bytes) -> bytes:
        size, length = len(body), bytearray()
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([field << 3 | 2]) + bytes(length) + bytes([size]) + body

    graph = b""
    for _ in range(1000):  # a node with an attribute with a graph
        graph = message(1, message(5, message(6, graph)))
    (policy_file.folder / "models/net.onnx").write_bytes(message(7, graph))
    with pytest.raises(ArtifactError, match=r"nested too deep to be one\. Export or copy"):
        ingest("net", model(), policy_file)


def test_operator_that_no_backend_has_is_named(policy_file: PolicyFile) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"])
    of = ("float32", ["n", 3])
    tiny_models.write(policy_file.folder / "models/net.onnx", [node], {"x": of}, {"y": of})
    with pytest.raises(ArtifactError, match="Frobnicate"):
        ingest("net", model(), policy_file)


def test_external_data_counts_in_size_and_digest(policy_file: PolicyFile) -> None:
    path = save_external(policy_file.folder / "models", "weights.bin")
    first = ingest("net", model(), policy_file)
    weights = path.parent / "weights.bin"
    assert first.size_bytes == path.stat().st_size + weights.stat().st_size
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    assert ingest("net", model(), policy_file).id != first.id


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "../../weights.bin"])
def test_external_data_may_not_leave_the_folder(policy_file: PolicyFile, location: str) -> None:
    save_external(policy_file.folder / "models", location)
    with pytest.raises(ArtifactError, match=r"external data must stay in .*, got '.*'"):
        ingest("net", model(), policy_file)


def test_linked_external_data_may_not_leave_the_folder(policy_file: PolicyFile) -> None:
    path = save_external(policy_file.folder / "models", "weights.bin")
    weights = path.parent / "weights.bin"
    weights.rename(policy_file.folder.parent / "weights.bin")
    weights.symlink_to(policy_file.folder.parent / "weights.bin")
    with pytest.raises(ArtifactError, match="external data must stay in"):
        ingest("net", model(), policy_file)


def test_missing_external_data_is_named(policy_file: PolicyFile) -> None:
    save_external(policy_file.folder / "models", "lost.bin")
    with pytest.raises(ArtifactError, match=r"got no file 'lost\.bin'"):
        ingest("net", model(), policy_file)


def test_precision_of_half_precision_weights_is_fp16(policy_file: PolicyFile) -> None:
    weights = {"w": np.ones((3, 3), np.float16)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    of = ("float16", ["n", 3])
    path = policy_file.folder / "models/net.onnx"
    tiny_models.write(path, [node], {"x": of}, {"y": of}, weights)
    assert ingest("net", model(), policy_file).precision == "fp16"


def test_precision_of_quantised_operators_is_int8(policy_file: PolicyFile) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    weights = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.uint8)}
    of = ("float32", ["n", 3])
    path = policy_file.folder / "models/net.onnx"
    tiny_models.write(path, nodes, {"x": of}, {"y": of}, weights)
    assert ingest("net", model(), policy_file).precision == "int8"


@pytest.mark.skipif(not registry.installed("openvino"), reason="openvino is not installed")
def test_openvino_ir_is_served_as_it_stands(policy_file: PolicyFile) -> None:
    import openvino

    source = tiny_models.linear(policy_file.folder / "net.onnx")
    target = policy_file.folder / "models/net.xml"
    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)
    artifact = ingest("net", model("models/net.xml"), policy_file)
    assert (artifact.format, artifact.precision) == ("openvino", "fp32")
    assert artifact.size_bytes > target.stat().st_size
    session = registry.backend("openvino").open(artifact, precision="fp32", device="CPU", threads=1)
    assert session.run({"x": np.ones((2, 4), np.float32)})["logits"].shape == (2, 3)
    target.with_suffix(".bin").unlink()
    with pytest.raises(ArtifactError, match=r"net\.bin: must hold the weights of net\.xml"):
        ingest("net", model("models/net.xml"), policy_file)


@pytest.mark.skipif(not registry.installed("openvino"), reason="openvino is not installed")
def test_linked_weights_of_an_ir_may_not_leave_the_folder(policy_file: PolicyFile) -> None:
    models = policy_file.folder / "models"
    (models / "net.xml").write_text("<net/>")
    elsewhere = policy_file.folder.parent / "net.bin"
    elsewhere.write_bytes(b"weights")
    (models / "net.bin").symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match=r"external data must stay in .*models, got 'net\.bin'"):
        ingest("net", model("models/net.xml"), policy_file)
