"""Weights in fewer bits: which are, how small the file gets, and what it answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import helper, numpy_helper

from scanflow_serve.converters.admission import nodes
from scanflow_serve.converters.conversion import Context, Options
from scanflow_serve.converters.steps.onnx_weights import store_half, store_int8
from scanflow_serve.converters.verification import relative_error
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.tensors import Array

RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def answer(path: Path, inputs: dict[str, Array], precision: str = "fp32") -> Array:
    backend = registry.backend("onnxruntime")
    artifact = tiny_models.artifact(path, backend, precision=precision)
    session = backend.open(artifact, precision=precision, device="CPU", threads=1)
    return session.run(inputs)["y"]


def stored(path: Path) -> dict[str, str]:
    """Return the dtype of each weight, by the name that it has where it is read."""
    model = onnx.load(path)
    arrays = {t.name: numpy_helper.to_array(t).dtype.name for t in model.graph.initializer}
    widened = {
        node.output[0]: arrays[node.input[0]]
        for node in nodes(model)
        if node.op_type in ("Cast", "DequantizeLinear")
    }
    inner = {name for node in nodes(model) for name in node.input}
    return {name: dtype for name, dtype in (arrays | widened).items() if name in inner} | widened


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A convolution, a recurrent layer, a table and two products, one of them transposed."""
    of: tuple[str, list[int | str]] = ("float32", ["batch", 10])
    return tiny_models.write(
        tmp_path / "net.onnx",
        [
            helper.make_node("Conv", ["x", "conv", "bias"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Flatten", ["a"], ["b"]),
            helper.make_node("Gemm", ["b", "dense"], ["c"], transB=1, name="dense"),
            helper.make_node("Unsqueeze", ["c", "axis"], ["d"]),
            helper.make_node("LSTM", ["d", "in", "back"], ["", "e"], hidden_size=16),
            helper.make_node("Squeeze", ["e", "axis"], ["f"]),
            helper.make_node("Gather", ["table", "axis"], ["g"]),
            helper.make_node("Add", ["f", "g"], ["h"]),
            helper.make_node("MatMul", ["h", "head"], ["y"]),
        ],
        {"x": ("float32", ["batch", 3, 8, 8])},
        {"y": of},
        {
            "conv": weight(32, 3, 3, 3) / 5,
            "bias": weight(32),
            "dense": weight(64, 2048) / 64,
            "in": weight(1, 64, 64) / 8,
            "back": weight(1, 64, 16) / 8,
            "table": weight(20, 16),
            "head": weight(16, 10),
            "axis": np.array([0], np.int64),
        },
    )


def test_weights_of_every_layer_are_int8_and_the_answers_stay(
    network: Path, tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    path = store_int8(network, tmp_path / "made", Context())
    found = stored(path)
    assert {found[name] for name in ("conv", "dense", "in", "back", "table")} == {"int8"}
    assert {found[name] for name in ("bias", "head")} == {"float32"}  # of few numbers
    assert path.stat().st_size < 0.27 * network.stat().st_size
    rows = {"x": weight(16, 3, 8, 8)}
    assert relative_error(answer(network, rows), answer(path, rows, "w8")) < 2e-2


def test_weights_in_fp16_halve_the_file_and_the_answers_stay(network: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    path = store_half(network, tmp_path / "made", Context())
    assert path.stat().st_size < 0.52 * network.stat().st_size
    rows = {"x": weight(16, 3, 8, 8)}
    assert relative_error(answer(network, rows), answer(path, rows, "fp16")) < 1e-3


def test_each_channel_has_a_scale_so_that_a_large_one_does_not_ruin_the_others(
    tmp_path: Path,
) -> None:
    scales = np.array([1e-3, 1, 1e3, 1], np.float32)
    for name, shape, axis, attributes in (
        ("MatMul", (100, 4), 1, {}),
        ("Gemm", (4, 100), 0, {"transB": 1}),
    ):
        factors = scales.reshape([-1 if n == axis else 1 for n in range(2)])
        source = tiny_models.write(
            tmp_path / f"{name}.onnx",
            [helper.make_node(name, ["x", "w"], ["y"], **attributes)],
            {"x": ("float32", ["batch", 100])},
            {"y": ("float32", ["batch", 4])},
            {"w": weight(*shape) * factors},
        )
        folder = tmp_path / name
        folder.mkdir()
        rows = {"x": weight(32, 100)}
        wanted, got = (
            answer(source, rows),
            answer(store_int8(source, folder, Context()), rows, "w8"),
        )
        for column in range(4):
            assert relative_error(wanted[:, column], got[:, column]) < 2e-2


def test_ignored_nodes_keep_their_weights(network: Path, tmp_path: Path) -> None:
    context = Context(options=Options(ignored=("dense",)))
    for store in (store_int8, store_half):
        folder = tmp_path / store.__name__
        folder.mkdir()
        found = stored(store(network, folder, context))
        assert found["dense"] == "float32"
        assert found["in"] != "float32"


def test_weight_that_operators_read_in_different_ways_stays(tmp_path: Path) -> None:
    of: tuple[str, list[int | str]] = ("float32", ["batch", 32])
    source = tiny_models.write(
        tmp_path / "net.onnx",
        [
            helper.make_node("MatMul", ["x", "both"], ["a"]),
            helper.make_node("Add", ["both", "both"], ["twice"]),
            helper.make_node("MatMul", ["a", "twice"], ["b"]),
            helper.make_node("MatMul", ["b", "once"], ["y"]),
        ],
        {"x": of},
        {"y": of},
        {"both": weight(32, 32), "once": weight(32, 32)},
    )
    (tmp_path / "made").mkdir()
    found = stored(store_int8(source, tmp_path / "made", Context()))
    assert (found["both"], found["once"]) == ("float32", "int8")


def test_weights_that_fp16_can_not_hold_stay_in_fp32(tmp_path: Path) -> None:
    of: tuple[str, list[int | str]] = ("float32", ["batch", 32])
    source = tiny_models.write(
        tmp_path / "net.onnx",
        [
            helper.make_node("MatMul", ["x", "large"], ["a"]),
            helper.make_node("MatMul", ["a", "small"], ["y"]),
        ],
        {"x": of},
        {"y": of},
        {"large": weight(32, 32) * 1e5, "small": weight(32, 32)},
    )
    (tmp_path / "made").mkdir()
    found = stored(store_half(source, tmp_path / "made", Context()))
    assert (found["large"], found["small"]) == ("float32", "float16")


def test_model_of_an_opset_without_channels_is_brought_up_to_date(tmp_path: Path) -> None:
    source = tiny_models.write(
        tmp_path / "net.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ("float32", ["batch", 32])},
        {"y": ("float32", ["batch", 32])},
        {"w": weight(32, 32)},
    )
    model = onnx.load(source)
    model.opset_import[0].version = 11
    onnx.save(model, source)
    (tmp_path / "made").mkdir()
    path = store_int8(source, tmp_path / "made", Context())
    rows = {"x": weight(8, 32)}
    assert relative_error(answer(source, rows), answer(path, rows, "w8")) < 2e-2
