from __future__ import annotations

from pathlib import Path

import pytest
from origin_worlds import Find

from scanflow_serve.converters.origins.mlflow_folders import read_model_folder
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

COLUMNS = """\
flavors:
  sklearn: {pickled_model: model.skops, code: code}
signature:
  inputs: '[{"type": "double", "name": "size"}, {"type": "string", "name": "colour"}]'
"""


def logged(folder: Path, text: str) -> Path:
    (folder / "MLmodel").write_text(text)
    (folder / "model.skops").touch()
    return folder


def test_columns_of_a_signature_are_read(folder: Path) -> None:
    found = read_model_folder("Model 'net'", logged(folder, COLUMNS))
    assert found.inputs == (
        TensorSpec("size", "float64", (None, 1)),
        TensorSpec("colour", "str", (None, 1)),
    )
    assert found.code == (folder / "code",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("flavors: {sklearn: {pickled_model: ../../x.pkl}}", r"inside of its folder, got '\.\./"),
        ("flavors: {onnx: {data: gone.onnx}}", "file must be there, got none"),
        ("flavors: {spacy: {}, python_function: {}}", "sklearn, scanflow_serve, got "),
        ("flavors: [", "must be an MLmodel file, got one that can't be read"),
        ("just text", "must be an MLmodel file, got one that can't be read"),
        ("flavors: {onnx: nothing}", "must be an MLmodel file, got one that can't be read"),
        ("flavors: {sklearn: {pickled_model: model.skops}}\nsignature: {inputs: '{'}",
         "must be an MLmodel file, got one that can't be read"),
    ],
)  # fmt: skip
def test_malformed_model_folder_is_refused(folder: Path, text: str, fault: str) -> None:
    with pytest.raises(ArtifactError, match=fault):
        read_model_folder("Model 'net'", logged(folder, text))


def test_folder_without_mlmodel_is_refused(find: Find, folder: Path) -> None:
    (folder / "model").mkdir()
    with pytest.raises(ArtifactError, match="must be an MLflow model, got no file MLmodel"):
        find("model")
