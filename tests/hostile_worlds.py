"""Model files that lie, each in a folder of its own: what a stranger may hand to `source:`."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import tiny_models
from onnx import helper, numpy_helper

MODELS = Path(__file__).parent / "contract" / "models"
MB = 2**20
BOMB_MB = 300


def truncated(folder: Path) -> str:
    (folder / "net.onnx").write_bytes((MODELS / "digits-mlp.onnx").read_bytes()[:-200])
    return "net.onnx"


def _external(folder: Path, location: str) -> str:
    """Write a model whose weights lie at *location*, where 48 bytes are that it may not have."""
    weights = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    model = onnx.load(tiny_models.linear(folder / "net.onnx"))
    weights.name = model.graph.initializer[0].name
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    model.graph.initializer[0].CopyFrom(weights)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return "net.onnx"


def _secret(folder: Path) -> Path:
    path = folder.with_name(f"{folder.name}.secret")
    path.write_bytes(b"\x01" * 48)
    return path


def escaping_upwards(folder: Path) -> str:
    return _external(folder, f"../{_secret(folder).name}")


def escaping_by_an_absolute_path(folder: Path) -> str:
    return _external(folder, str(_secret(folder)))


def escaping_by_a_link(folder: Path) -> str:
    (folder / "net.data").symlink_to(_secret(folder))
    return _external(folder, "net.data")


def _bomb(path: Path, inflated: str) -> None:
    """Write an archive of a few hundred kB in which the member *inflated* has 300 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/archive_format", "pt2")
        with archive.open(inflated, "w") as member:
            for _ in range(BOMB_MB):
                member.write(bytes(MB))
    assert path.stat().st_size < MB


def bomb_of_torch(folder: Path) -> str:
    _bomb(folder / "net.pt2", "net/data/weights/weight_0")
    return "net.pt2"


def bomb_of_skops(folder: Path) -> str:
    _bomb(folder / "net.skops", "schema.json")
    return "net.skops"


def bomb_in_a_bento(folder: Path) -> str:
    """BentoML's home is `bentoml` in *folder*."""
    place = folder / "bentoml" / "models" / "net" / "v1"
    place.mkdir(parents=True)
    (place / "model.yaml").write_text("name: net\nversion: v1\n")
    shutil.move(folder / bomb_of_skops(folder), place / "saved_model.skops")
    return "bento:net:v1"


def operator_that_nobody_has(folder: Path) -> str:
    _odd(folder, helper.make_node("Frobnicate", ["x"], ["y"], name="odd-one"))
    return "net.onnx"


def number_of_dimensions_that_nobody_knows(folder: Path) -> str:
    path = folder / tiny_models.identity(folder / "net.onnx", "float32")
    model = onnx.load(path)
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.ClearField("shape")
    path.write_bytes(model.SerializeToString())
    return "net.onnx"


def batch_that_is_fixed_inside(folder: Path) -> str:
    """It declares any number of rows, and makes two of them."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], name="make-two")]
    rows = ("float32", ["batch", 4])
    weights = {"shape": np.array([2, 4], np.int64)}
    tiny_models.write(folder / "net.onnx", nodes, {"x": rows}, {"y": rows}, weights)
    return "net.onnx"


def _odd(folder: Path, node: onnx.NodeProto) -> None:
    rows = ("float32", ["batch", 3])
    tiny_models.write(folder / "net.onnx", [node], {"x": rows}, {"y": rows})
