from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.policies.schema import Model
from scanflow_serve.runtime.artifacts import Artifact, Format, Manifest
from scanflow_serve.runtime.supply import artifact_for, class_names
from scanflow_serve.runtime.tensors import Signature
from scanflow_serve.runtime.variants import Variant


def artifact(form: Format, precision: str, backend: str = "") -> Artifact:
    effective = {backend: precision} if backend else {}
    manifest = Manifest("net.onnx", "00", effective=effective)
    name = f"{form}-{precision}"
    return Artifact(name, "net", form, precision, Path(name), 1, Signature((), ()), manifest)


SOURCE = artifact("onnx", "fp32")
ONNX8 = artifact("onnx", "int8", "onnxruntime")
IR8 = artifact("openvino", "int8", "openvino")
ALL = (SOURCE, ONNX8, IR8)


@pytest.mark.parametrize(
    ("backend", "precision", "wanted"),
    [
        ("onnxruntime", "fp32", SOURCE),
        ("openvino", "fp32", SOURCE),
        ("openvino", "bf16", SOURCE),  # cast as it is loaded
        ("onnxruntime", "int8", ONNX8),
        ("openvino", "int8", IR8),  # not the one that was made and verified for onnxruntime
    ],
)
def test_variant_loads_the_file_in_its_precision_that_was_made_for_its_backend(
    backend: str, precision: str, wanted: Artifact
) -> None:
    assert artifact_for(Variant("net", backend, precision), ALL) == wanted


def test_file_of_fp16_for_one_backend_is_not_what_another_casts() -> None:
    half = artifact("onnx", "fp16", "onnxruntime")
    assert artifact_for(Variant("net", "onnxruntime", "fp16"), (SOURCE, half)) == half
    assert artifact_for(Variant("net", "openvino", "fp16"), (SOURCE, half)) == SOURCE


def test_classes_are_named_by_the_policy_else_by_the_source() -> None:
    named = replace(SOURCE, manifest=replace(SOURCE.manifest, labels=("cat", "dog")))
    assert class_names(Model(source="net.skops"), [named]) == ("cat", "dog")
    assert class_names(Model(source="net.skops", labels=["a", "b"]), [named]) == ("a", "b")
    assert class_names(Model(source="net.skops"), [SOURCE]) is None


def test_names_of_classes_survive_the_manifest() -> None:
    named = replace(SOURCE, manifest=replace(SOURCE.manifest, labels=("cat", "dog")))
    told = json.loads(json.dumps(named.to_json()))
    assert Artifact.from_json(told) == named


def test_int8_source_is_loaded_by_both_backends_as_it_stands() -> None:
    source = artifact("onnx", "int8")
    for backend in ("onnxruntime", "openvino"):
        assert artifact_for(Variant("net", backend, "int8"), (source,)) == source


def test_variant_without_a_file_of_its_format_is_told() -> None:
    with pytest.raises(ArtifactError, match=r"net/onnxruntime-fp32x1: .* as onnx, got \['openvino"):
        artifact_for(Variant("net", "onnxruntime", "fp32"), (artifact("openvino", "fp32"),))
