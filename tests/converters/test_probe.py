"""A model made elsewhere is served only if it answers here as it did there."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from onnx import helper
from registry_worlds import converted

from scanflow_serve.converters import probe
from scanflow_serve.converters.origins.in_child import read_tensors, write_tensors
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError
from scanflow_serve.runtime.artifacts import Artifact, Format
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.store import ArtifactStore
from scanflow_serve.runtime.tensors import Signature, TensorSpec


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return converted(ArtifactStore(tmp_path / "store"), "models:/net/1")


@pytest.fixture
def recorded(artifact: Artifact, tmp_path: Path) -> Path:
    probe.record(artifact, tmp_path / "probe")
    return tmp_path / "probe"


def test_probe_holds_what_the_model_answers_to_its_rows(artifact: Artifact, recorded: Path) -> None:
    inputs = read_tensors(recorded / probe.INPUTS)
    assert inputs["x"].shape == (32, 4)
    session = registry.backend("onnxruntime").open(
        artifact, precision="fp32", device="CPU", threads=1
    )
    outputs = read_tensors(recorded / probe.OUTPUTS)
    np.testing.assert_array_equal(outputs["logits"], session.run(inputs)["logits"])


def test_model_that_answers_as_recorded_is_accepted(artifact: Artifact, recorded: Path) -> None:
    probe.hold(artifact, recorded)
    probe.hold(artifact, None)


def test_openvino_is_held_to_what_onnxruntime_answered(
    artifact: Artifact, recorded: Path, tmp_path: Path
) -> None:
    form: Format = "openvino"
    ir = converted(ArtifactStore(tmp_path / "store"), "models:/net/1", form)
    probe.hold(ir, recorded)
    outputs = read_tensors(recorded / probe.OUTPUTS)
    write_tensors(recorded / probe.OUTPUTS, {"logits": outputs["logits"][:, ::-1]})
    with pytest.raises(ArtifactError, match="on openvino, against what it answered where made"):
        probe.hold(ir, recorded)


def test_model_that_answers_otherwise_is_refused(artifact: Artifact, recorded: Path) -> None:
    outputs = read_tensors(recorded / probe.OUTPUTS)
    write_tensors(recorded / probe.OUTPUTS, {"logits": outputs["logits"] + 1})
    wanted = rf"Artifact {artifact.id[:12]} \(net onnx fp32\): on onnxruntime, against what it"
    with pytest.raises(ArtifactError, match=wanted):
        probe.hold(artifact, recorded)


def test_model_that_gives_nan_is_refused_even_without_a_probe(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])]
    of = ("float32", ["batch", 3])
    path = tiny_models.write(tmp_path / "nan.onnx", nodes, {"x": of}, {"y": of})
    artifact = tiny_models.artifact(path, registry.backend("onnxruntime"))
    with pytest.raises(ArtifactError, match=r"output 'y' must be finite, got 96 NaN or Inf"):
        probe.hold(artifact, None)
    with pytest.raises(ArtifactError, match="must be finite"):
        probe.record(artifact, tmp_path / "probe")


def test_model_with_other_outputs_than_its_signature_is_refused(artifact: Artifact) -> None:
    outputs = (TensorSpec("logits", "float32", (None, 5)),)
    told = replace(artifact, signature=Signature(artifact.signature.inputs, outputs))
    with pytest.raises(ArtifactError, match=r"must be float32 \[32, 5\], got float32 \[32, 3\]"):
        probe.hold(told, None)


def test_signature_of_a_terabyte_is_refused_before_it_is_allocated(artifact: Artifact) -> None:
    inputs = (TensorSpec("x", "float32", (None, 2**38)),)
    told = replace(artifact, signature=Signature(inputs, artifact.signature.outputs))
    with pytest.raises(ArtifactError, match=r"a batch must take <= 67108864 B, got 1099511627776"):
        probe.hold(told, None)


def test_file_that_no_backend_loads_is_refused(artifact: Artifact) -> None:
    artifact.path.write_bytes(artifact.path.read_bytes()[:60])
    with pytest.raises(ArtifactError, match=r"net\.onnx"):
        probe.hold(artifact, None)


def test_probe_that_is_a_zip_bomb_is_refused(artifact: Artifact, recorded: Path) -> None:
    with zipfile.ZipFile(recorded / probe.INPUTS, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a0.npy", bytes(2**27))
    with pytest.raises(ArtifactError, match=r"inputs\.npz of the probe must have <= 67108864 B"):
        probe.hold(artifact, recorded)


def test_probe_that_is_no_probe_is_refused(artifact: Artifact, recorded: Path) -> None:
    (recorded / probe.OUTPUTS).write_bytes(b"PK")
    with pytest.raises(
        ArtifactError, match=r"outputs\.npz of the probe must hold recorded tensors"
    ):
        probe.hold(artifact, recorded)


def test_format_that_no_backend_loads_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"format must be onnx or openvino, got 'torch'"):
        probe.hold(replace(artifact, format="torch"), None)


def test_format_without_an_installed_backend_names_the_extra(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'scanflow-serve\[openvino\]'"):
        probe.hold(replace(artifact, format="openvino"), None)
