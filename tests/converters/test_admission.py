from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import ModelProto, TensorProto, helper, numpy_helper

from scanflow_serve.converters.admission import examine, load, nodes, tensors
from scanflow_serve.policies.errors import ArtifactError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.linear(tmp_path / "net.onnx", hidden=4)


def rewrite(path: Path, change: Callable[[ModelProto], None]) -> Path:
    loaded = onnx.load(path, load_external_data=False)
    change(loaded)
    path.write_bytes(loaded.SerializeToString())
    return path


def test_valid_model_is_admitted(model: Path) -> None:
    assert [node.op_type for node in nodes(examine(model))] == ["MatMul", "MatMul"]


@pytest.mark.parametrize("keep", [0, 1, 0.5, 0.9])
def test_truncated_file_is_refused(model: Path, keep: float) -> None:
    data = model.read_bytes()
    model.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(ArtifactError, match=r"net\.onnx: (must be|can't be read)"):
        examine(model)


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(ArtifactError, match="must be an ONNX file"):
        examine(path)


def test_huge_declared_tensor_is_refused_before_it_is_allocated(model: Path) -> None:
    def grow(loaded: ModelProto) -> None:
        loaded.graph.initializer[0].dims[:] = [2**40, 2**20]

    with pytest.raises(ArtifactError, match=r"tensor 'w0' declares .* bytes, got 64\. Export"):
        examine(rewrite(model, grow))


def test_tensor_with_negative_dimension_is_refused(model: Path) -> None:
    def negate(loaded: ModelProto) -> None:
        loaded.graph.initializer[0].dims[:] = [-1, -16]

    with pytest.raises(ArtifactError, match="'w0' must have dimensions >= 0, got"):
        examine(rewrite(model, negate))


def test_tensor_of_unknown_dtype_is_refused(model: Path) -> None:
    def change(loaded: ModelProto) -> None:
        loaded.graph.initializer[0].data_type = 9999

    with pytest.raises(ArtifactError, match="'w0' must have a dtype of ONNX, got number 9999"):
        examine(rewrite(model, change))


def test_unknown_operator_is_named_with_its_node(tmp_path: Path) -> None:
    node = helper.make_node("Bogus", ["x"], ["y"], name="bogus-1")
    of = ("float32", ["batch", 3])
    path = tiny_models.write(tmp_path / "net.onnx", [node], {"x": of}, {"y": of})
    with pytest.raises(ArtifactError, match=r"No Op registered for Bogus.*Name: bogus-1"):
        examine(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "", "."])
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    path = external(tmp_path / "models", location)
    folder = re.escape(str((tmp_path / "models").resolve()))
    with pytest.raises(ArtifactError, match=f"external data must stay in {folder}, got"):
        examine(path)


def test_external_data_behind_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    path = external(tmp_path / "models", "weights.bin")
    (tmp_path / "models" / "weights.bin").unlink()
    (tmp_path / "models" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ArtifactError, match="external data must stay in"):
        examine(path)


def test_external_data_is_loaded_from_beside_the_model(tmp_path: Path) -> None:
    path = external(tmp_path / "models", "weights.bin")
    weights = numpy_helper.to_array(load(path).graph.initializer[0])
    assert weights.shape == (4, 3)
    assert np.any(weights)


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"got no file 'other\.bin'\. Copy it there"):
        examine(external(tmp_path / "models", "other.bin"))


def test_cut_external_data_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path / "models", "weights.bin")
    place = path.with_name("weights.bin")
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"takes 48 bytes, got 0"):
        examine(path)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    """Depth costs an attacker a few bytes a level, and a naive reader its stack."""
    data = b""
    for _ in range(sys.getrecursionlimit()):
        attribute = field(6, data)
        node = field(5, attribute)
        data = field(1, node)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x08" + field(7, data))
    with pytest.raises(ArtifactError, match="nested too deep"):
        examine(path)


def test_tensors_of_nested_graphs_are_examined_too(tmp_path: Path) -> None:
    path = nested(tmp_path / "net.onnx", dims=[2**40])
    with pytest.raises(ArtifactError, match="tensor 'inner' declares"):
        examine(path)
    assert [t.name for t in tensors(examine(nested(path, dims=[3])))] == ["inner", "inner"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_are_counted_in_whatever_field_they_stand(
    tmp_path: Path, dtype: str, raw: bool
) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = np.ones((3, 2), dtype)
    tensor = helper.make_tensor("w", kind, (3, 2), values.tobytes() if raw else values, raw=raw)
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", kind, (3, 2))])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert len(list(tensors(examine(path)))) == 1
    node.attribute[0].t.dims[:] = [3, 3]
    graph.node[0].CopyFrom(node)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    with pytest.raises(ArtifactError, match="tensor 'w' declares"):
        examine(path)


def external(folder: Path, location: str) -> Path:
    folder.mkdir()
    path = tiny_models.linear(folder / "net.onnx")
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )

    def move(loaded: ModelProto) -> None:
        for entry in loaded.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location

    return rewrite(path, move)


def nested(path: Path, dims: list[int]) -> Path:
    branches = {}
    for branch in ("then_branch", "else_branch"):
        weights = numpy_helper.from_array(np.ones(3, np.float32), "inner")
        weights.dims[:] = dims
        branches[branch] = helper.make_graph(
            [helper.make_node("Identity", ["inner"], ["out"])],
            branch,
            [],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])],
            [weights],
        )
    node = helper.make_node("If", ["x"], ["y"], **branches)
    return tiny_models.write(path, [node], {"x": ("bool", [])}, {"y": ("float32", [3])})


def field(number: int, data: bytes) -> bytes:
    """Return *data* as a length-delimited field of a protocol buffer."""
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*length, size]) + data
