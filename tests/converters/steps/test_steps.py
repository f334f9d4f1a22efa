"""Every step makes what its row of the table says, of real models, in the process that ships."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import tiny_models
from onnx import TensorProto, helper

from scanflow_serve.converters import runner
from scanflow_serve.converters.admission import nodes, tensors
from scanflow_serve.converters.conversion import Context, Options
from scanflow_serve.converters.onnx_structure import read_structure
from scanflow_serve.converters.routes import STEPS, Form, Step, installed_tools, route
from scanflow_serve.converters.verification import relative_error
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.artifacts import Artifact, Format, Manifest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.tensors import Tensors

pytestmark = pytest.mark.slow
CONTRACT = Path(__file__).parents[2] / "contract"
CNN = CONTRACT / "models" / "digits-cnn.onnx"
LINEAR = CONTRACT / "models" / "digits-linear.onnx"  # a scikit-learn pipeline
VNNI = frozenset({"avx2", "avx512_vnni"})
AVX2 = frozenset({"avx2"})
ARM = frozenset({"neon", "asimd", "asimdhp", "fphp"})
RAW = Form("onnx", "fp32")


@pytest.fixture(scope="module")
def digits() -> Tensors:
    with np.load(CONTRACT / "data" / "digits-validation.npz") as file:
        return {"pixels": file["pixels"].astype(np.float32)[:100], "label": file["label"][:100]}


def convert(
    source: Path,
    folder: Path,
    goal: Form,
    *,
    rows: Tensors | None = None,
    features: frozenset[str] = VNNI,
    start: Form = RAW,
    options: Options | None = None,
) -> Path:
    steps = route(
        start, goal, installed=installed_tools(), data=rows is not None, features=features
    )
    assert not isinstance(steps, Refusal), steps
    folder.mkdir(exist_ok=True)
    return runner.convert(steps, source, folder, Context(rows, features, options or Options()))


def run(path: Path, form: Form, inputs: Tensors) -> Tensors:
    backend = registry.backend("onnxruntime" if form.format == "onnx" else "openvino")
    artifact = Artifact(
        id="",
        model="net",
        format=form.format,
        precision=form.precision,
        path=path,
        size_bytes=1,
        signature=backend.signature(str(path)),
        manifest=Manifest(source="", source_digest=""),
    )
    session = backend.open(artifact, precision=form.precision, device="CPU", threads=1)
    try:
        return session.run(inputs)
    finally:
        session.close()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Form], Path]:
    """Return a function that returns the digits' CNN in a form that some step requires."""
    made = {RAW: CNN}

    def source(form: Form) -> Path:
        if form not in made:
            folder = tmp_path_factory.mktemp("source")
            made[form] = convert(CNN, folder, form, features=ARM)
        return made[form]

    return source


def stored_precision(path: Path) -> str:
    if path.suffix == ".onnx":
        graph = onnx.load(path).graph
        half = {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT16}
        read = {node.op_type for node in graph.node if half & set(node.input)}
        return "w16" if read == {"Cast"} else read_structure(path).precision
    model = openvino.Core().read_model(path)
    kinds = {op.get_type_name() for op in model.get_ops()}
    sizes: Counter[str] = Counter()
    for op in model.get_ops():
        if op.get_type_name() == "Constant":
            sizes[op.get_element_type().get_type_name()] += op.data.size
    name = {"f32": "fp32", "f16": "w16", "i8": "w8", "u8": "w8"}[sizes.most_common(1)[0][0]]
    return "int8" if "FakeQuantize" in kinds else name


# What a precision may cost here; fp16 has a roundoff of 4.9e-4, int8 a step of 1/255 of the range.
ERROR = {"fp32": 1e-5, "fp16": 2e-3, "w16": 1e-3, "int8": 5e-2, "w8": 2e-2}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_step_makes_the_form_that_it_ensures_and_the_model_answers_as_before(
    tmp_path: Path, digits: Tensors, sources: Callable[[Form], Path], step: Step
) -> None:
    inputs = {"pixels": digits["pixels"]}
    rows = inputs if step.data else None
    path = runner.convert([step], sources(step.requires), tmp_path, Context(rows, VNNI))
    assert {".onnx": "onnx", ".xml": "openvino"}[path.suffix] == step.ensures.format
    assert stored_precision(path) == step.ensures.precision
    wanted = run(CNN, RAW, inputs)["logits"]
    got = run(path, step.ensures, inputs)["logits"]
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert relative_error(wanted, got) < ERROR[step.ensures.precision]
    assert np.mean(got.argmax(1) == wanted.argmax(1)) >= 0.99


def test_lower_precisions_are_smaller(tmp_path: Path, digits: Tensors) -> None:
    rows = {"pixels": digits["pixels"]}
    for format_ in ("onnx", "openvino"):
        path = convert(CNN, tmp_path / format_, Form(format_, "int8"), rows=rows)
        assert sum(file.stat().st_size for file in path.parent.iterdir()) < 0.8 * CNN.stat().st_size


def test_dynamic_int8_needs_no_rows(tmp_path: Path) -> None:
    source = tiny_models.linear(tmp_path / "net.onnx", features=64, classes=10, hidden=64)
    goal = Form("onnx", "int8")
    path = convert(source, tmp_path / "made", goal)
    assert "DynamicQuantizeLinear" in read_structure(path).operators
    inputs = {"x": np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)}
    wanted = run(source, RAW, inputs)["logits"]
    assert relative_error(wanted, run(path, goal, inputs)["logits"]) < 5e-2


def test_cleaning_folds_constants_and_strips_what_is_not_the_model(tmp_path: Path) -> None:
    path = tiny_models.write(
        tmp_path / "net.onnx",
        [
            helper.make_node("Add", ["a", "b"], ["w"], name="fold-me"),
            helper.make_node("MatMul", ["x", "w"], ["y"], name="keep-me"),
        ],
        {"x": ("float32", ["batch", 2])},
        {"y": ("float32", ["batch", 2])},
        {"a": np.eye(2, dtype=np.float32), "b": np.ones((2, 2), np.float32)},
    )
    model = onnx.load(path)
    for place in (model, model.graph, *model.graph.node, *model.graph.initializer):
        place.metadata_props.add(key="trace", value="/home/somebody/train.py")
        place.doc_string = "/home/somebody/train.py"
    onnx.save(model, path)
    made = convert(path, tmp_path / "made", Form("onnx", "fp32", clean=True))
    assert [node.op_type for node in nodes(onnx.load(made))] == ["MatMul"]
    assert b"somebody" not in made.read_bytes()


def test_cleaning_keeps_names_and_the_open_batch(tmp_path: Path) -> None:
    made = convert(CNN, tmp_path / "made", Form("onnx", "fp32", clean=True))
    backend = registry.backend("onnxruntime")
    assert backend.signature(str(made)) == backend.signature(str(CNN))


def test_static_int8_has_a_scale_for_each_channel_and_uses_what_the_processor_multiplies(
    tmp_path: Path, digits: Tensors
) -> None:
    """Without VNNI weights keep to 7 bits, so that a sum of two products fits 16 bits."""
    rows = {"pixels": digits["pixels"]}
    reach = {}
    for name, features in {"vnni": VNNI, "avx2": AVX2, "arm": ARM}.items():
        path = convert(CNN, tmp_path / name, Form("onnx", "int8"), rows=rows, features=features)
        model = onnx.load(path)
        weights = [t for t in tensors(model) if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
        assert weights
        reach[name] = max(np.abs(onnx.numpy_helper.to_array(t)).max() for t in weights)
        scales = [t for t in tensors(model) if t.name.endswith("_scale") and t.dims]
        assert any(t.dims[0] > 1 for t in scales)
        points = {t.data_type for t in tensors(model) if t.name.endswith("_zero_point")}
        assert (TensorProto.UINT8 in points) is (name != "arm")
    assert reach == {"vnni": 127, "avx2": 64, "arm": 127}


def test_overflow_fix_narrows_openvino_weights_where_the_processor_lacks_vnni(
    tmp_path: Path, digits: Tensors
) -> None:
    rows = {"pixels": digits["pixels"]}
    reach = {}
    for name, features in {"vnni": VNNI, "avx2": AVX2}.items():
        path = convert(CNN, tmp_path / name, Form("openvino", "int8"), rows=rows, features=features)
        model = openvino.Core().read_model(path)
        weights = [
            op.data
            for op in model.get_ops()
            if op.get_type_name() == "Constant" and op.get_element_type() == openvino.Type.i8
        ]
        assert weights
        reach[name] = max(int(np.abs(array.astype(int)).max()) for array in weights)
    assert reach["vnni"] > 100
    assert reach["avx2"] <= 64


@pytest.mark.parametrize("format_", ["onnx", "openvino"])
def test_ignored_nodes_stay_as_they_are(tmp_path: Path, digits: Tensors, format_: Format) -> None:
    source = tiny_models.linear(tmp_path / "net.onnx", features=64, classes=10, hidden=32)
    model = onnx.load(source)
    for number, node in enumerate(model.graph.node):
        node.name = f"layer-{number}"
    onnx.save(model, source)
    rows = {"x": digits["pixels"]}
    goal = Form(format_, "int8")
    path = convert(
        source, tmp_path / "made", goal, rows=rows, options=Options(ignored=("layer-0",))
    )
    kept = quantised_products(path)
    everything = quantised_products(convert(source, tmp_path / "all", goal, rows=rows))
    assert (kept, everything) == (1, 2)


def quantised_products(path: Path) -> int:
    """Return how many matrix products have weights in int8."""
    if path.suffix == ".xml":
        constants = [
            op
            for op in openvino.Core().read_model(path).get_ops()
            if op.get_type_name() == "Constant"
        ]
        return sum(op.get_element_type() == openvino.Type.i8 for op in constants)
    kinds = (TensorProto.INT8, 2)
    return sum((t.data_type, len(t.dims)) == kinds for t in tensors(onnx.load(path)))


def test_fixed_batch_is_calibrated_in_batches_of_that_size(tmp_path: Path, digits: Tensors) -> None:
    source = tiny_models.linear(tmp_path / "net.onnx", batch=8, features=64, classes=10)
    rows = {"x": digits["pixels"][:20]}
    for goal in (Form("onnx", "int8"), Form("openvino", "int8")):
        path = convert(source, tmp_path / goal.format, goal, rows=rows)
        inputs = {"x": digits["pixels"][:8]}
        wanted = run(source, RAW, inputs)["logits"]
        assert relative_error(wanted, run(path, goal, inputs)["logits"]) < 5e-2


@pytest.mark.parametrize("format_", ["onnx", "openvino"])
def test_inputs_are_calibrated_by_name(tmp_path: Path, format_: Format) -> None:
    """One input is a hundred times the other: ranges of the wrong one would ruin the result."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(8, 8)).astype(np.float32) for name in ("v", "w")}
    of: tuple[str, list[int | str]] = ("float32", ["batch", 8])
    source = tiny_models.write(
        tmp_path / "net.onnx",
        [
            helper.make_node("MatMul", ["small", "v"], ["a"]),
            helper.make_node("MatMul", ["large", "w"], ["b"]),
        ],
        {"small": of, "large": of},
        {"a": of, "b": of},
        weights,
    )
    rows = {
        "large": 100 * random.normal(size=(50, 8)).astype(np.float32),
        "not-an-input": np.zeros(50, np.float32),
        "small": random.normal(size=(50, 8)).astype(np.float32),
    }
    goal = Form(format_, "int8")
    path = convert(source, tmp_path / "made", goal, rows=rows)
    inputs = {name: rows[name] for name in ("small", "large")}
    wanted, got = run(source, RAW, inputs), run(path, goal, inputs)
    for name in ("a", "b"):
        assert relative_error(wanted[name], got[name]) < 5e-2


def test_operator_that_openvino_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"digits-linear\.onnx: openvino can't convert operator "
        r"ai\.onnx\.ml\.LinearClassifier \(node 'LinearClassifier'\): .*Allow 'onnxruntime'",
    ):
        convert(LINEAR, tmp_path / "made", Form("openvino", "fp32"))
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("rows", [None, {"X": np.ones((4, 64), np.float32)}], ids=["live", "rows"])
def test_model_without_anything_to_quantise_is_refused(
    tmp_path: Path, rows: Tensors | None
) -> None:
    with pytest.raises(ArtifactError, match=r"int8 needs an operator of .*MatMul.*Use fp32"):
        convert(LINEAR, tmp_path / "made", Form("onnx", "int8"), rows=rows)


def test_model_without_weights_is_refused_for_lower_precisions(tmp_path: Path) -> None:
    source = tiny_models.identity(tmp_path / "net.onnx", "float32")
    rows = {"x": np.ones((4, 3), np.float32)}
    for goal, reason in {
        Form("openvino", "int8"): "int8 needs an operator that NNCF can quantise",
        Form("openvino", "w8"): "w8 needs weights of matrix products",
        Form("onnx", "fp16"): "fp16 needs float weights",
        Form("onnx", "w8"): "w8 needs weights of Conv, .* 256 numbers or more, got none",
        Form("onnx", "w16"): "w16 needs weights that fp16 can hold, 256 numbers or more, got none",
    }.items():
        with pytest.raises(ArtifactError, match=reason):
            convert(
                source,
                tmp_path / f"{goal.format}-{goal.precision}",
                goal,
                rows=rows if goal.precision == "int8" else None,
                features=ARM,
            )


def test_constant_that_stands_for_gigabytes_is_not_unfolded(tmp_path: Path) -> None:
    """A few bytes that expand to 4 TB, as a zip bomb does."""
    path = tiny_models.write(
        tmp_path / "net.onnx",
        [
            helper.make_node("ConstantOfShape", ["shape"], ["bomb"], name="bomb"),
            helper.make_node("ReduceSum", ["bomb"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        {"x": ("float32", ["batch", 2])},
        {"y": ("float32", ["batch", 2])},
        {"shape": np.array([2**20, 2**20], np.int64)},
    )
    for goal in (Form("onnx", "fp32", clean=True), Form("openvino", "fp32")):
        folder = tmp_path / goal.format
        try:
            made = convert(path, folder, goal)
        except ArtifactError as error:
            assert "net.onnx" in str(error)  # noqa: PT017 - either outcome is right
            assert list(folder.iterdir()) == []
        else:
            assert sum(file.stat().st_size for file in made.parent.iterdir()) < 2**20


@pytest.mark.parametrize("damage", ["weights", "graph"])
def test_truncated_ir_is_refused(tmp_path: Path, damage: str) -> None:
    ir = Form("openvino", "fp32")
    source = convert(CNN, tmp_path / "ir", ir)
    place = source.with_suffix(".bin") if damage == "weights" else source
    place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    with pytest.raises(ArtifactError, match=r"model\.xml: openvino can't convert"):
        convert(source, tmp_path / "made", Form("openvino", "w16"), start=ir)
