"""What every backend must do: each test runs on every entry of the registry that is installed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import tiny_models
from onnx import TensorProto, helper

from scanflow_serve.policies.errors import ArtifactError, BackendError, InputError
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.backends.session import Backend, Session

INSTALLED = [name for name in registry.BACKENDS if registry.installed(name)]
CONTRACT_MODELS = Path(__file__).parents[2] / "contract" / "models"


@pytest.fixture(params=INSTALLED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return registry.backend(request.param)


def load(backend: Backend, path: Path, *, precision: str = "fp32", threads: int = 1) -> Session:
    return backend.open(
        tiny_models.artifact(path, backend), precision=precision, device="CPU", threads=threads
    )


def test_backend_is_named_as_in_the_registry_and_has_a_version(backend: Backend) -> None:
    assert backend.name in registry.BACKENDS
    assert backend.version()[0].isdigit()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
def test_dtype_survives_the_way_through(backend: Backend, tmp_path: Path, dtype: str) -> None:
    session = load(backend, tiny_models.identity(tmp_path / "same.onnx", dtype))
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    y = session.run({"x": x})["y"]
    assert session.signature.inputs[0].dtype == dtype
    assert y.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(y, x)


def test_text_survives_or_is_refused(backend: Backend, tmp_path: Path) -> None:
    """OpenVINO's CPU plugin aborts the process when a model with text is freed."""
    path = tiny_models.identity(tmp_path / "text.onnx", "str", ("batch", 2))
    if backend.name == "openvino":
        with pytest.raises(ArtifactError, match=r"'x' must not be text on openvino.*onnxruntime"):
            backend.signature(str(path))
        return
    session = load(backend, path)
    assert session.signature.inputs[0].dtype == "str"
    for x in (np.array([["a", "ünï"]], dtype=object), np.array([["a", "ünï"]])):
        y = session.run({"x": x})["y"]
        assert y.tolist() == [["a", "ünï"]]
        assert y.dtype == np.dtype(object)


def test_dynamic_batch_takes_any_number_of_rows(backend: Backend, tmp_path: Path) -> None:
    session = load(backend, tiny_models.linear(tmp_path / "net.onnx"))
    assert session.signature.fixed_batch is None
    assert session.signature.inputs[0].shape == (None, 4)
    for rows in (1, 7, 32, 2):
        assert session.run({"x": np.ones((rows, 4), np.float32)})["logits"].shape == (rows, 3)


def test_other_dynamic_dimensions_are_taken(backend: Backend, tmp_path: Path) -> None:
    path = tiny_models.identity(tmp_path / "wide.onnx", "float32", ("batch", "wide"))
    session = load(backend, path)
    assert session.signature.inputs[0].shape == (None, None)
    assert session.run({"x": np.ones((2, 5), np.float32)})["y"].shape == (2, 5)


def test_fixed_batch_is_in_the_signature_and_held(backend: Backend, tmp_path: Path) -> None:
    session = load(backend, tiny_models.linear(tmp_path / "net.onnx", batch=2))
    assert session.signature.fixed_batch == 2
    assert session.run({"x": np.ones((2, 4), np.float32)})["logits"].shape == (2, 3)
    with pytest.raises(InputError, match=r"Input 'x': must be float32 \[2, 4\], got .* \[3, 4\]"):
        session.run({"x": np.ones((3, 4), np.float32)})


def test_several_inputs_and_outputs_keep_names_and_order(backend: Backend, tmp_path: Path) -> None:
    session = load(backend, tiny_models.sum_and_difference(tmp_path / "sums.onnx"))
    left = np.array([[5, 7]], np.float32)
    right = np.array([[1, 2]], np.float32)
    outputs = session.run({"right": right, "left": left})
    assert [spec.name for spec in session.signature.inputs] == ["left", "right"]
    assert list(outputs) == ["difference", "total", "again"]
    assert outputs["difference"].tolist() == [[4, 5]]
    assert outputs["total"].tolist() == outputs["again"].tolist() == [[6, 9]]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, r"Input 'x': must be given, got \[\]. The model takes 'x' float32 \[any, 4\]"),
        ({"z": np.ones((1, 4), np.float32)}, r"Input 'x': must be given, got \['z'\]"),
        (
            {"x": np.ones((1, 4), np.float32), "z": np.ones(1)},
            r"Input 'z': must be an input of the model. The model takes 'x'",
        ),
        ({"x": np.ones((1, 4))}, r"Input 'x': must be float32 \[any, 4\], got float64 \[1, 4\]"),
        ({"x": np.ones((1, 5), np.float32)}, r"got float32 \[1, 5\]"),
        ({"x": np.ones(4, np.float32)}, r"got float32 \[4\]"),
        ({"x": [[1.0, 1.0, 1.0, 1.0]]}, r"must be float32 \[any, 4\], got a list"),
    ],
)
def test_wrong_input_says_what_was_got_and_what_fits(
    backend: Backend, tmp_path: Path, inputs: dict[str, np.ndarray], says: str
) -> None:
    session = load(backend, tiny_models.linear(tmp_path / "net.onnx"))
    with pytest.raises(InputError, match=says):
        session.run(inputs)


def test_read_only_and_strided_inputs_are_taken(backend: Backend, tmp_path: Path) -> None:
    session = load(backend, tiny_models.linear(tmp_path / "net.onnx"))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    wanted = session.run({"x": x})["logits"]
    read_only = np.frombuffer(x.tobytes(), np.float32).reshape(2, 4)
    np.testing.assert_array_equal(session.run({"x": read_only})["logits"], wanted)
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(session.run({"x": strided})["logits"], wanted)
    np.testing.assert_array_equal(session.run({"x": np.asfortranarray(x)})["logits"], wanted)


def test_outputs_are_not_overwritten_by_the_next_call(backend: Backend, tmp_path: Path) -> None:
    session = load(backend, tiny_models.linear(tmp_path / "net.onnx"))
    first = session.run({"x": np.ones((1, 4), np.float32)})["logits"]
    copy = first.copy()
    session.run({"x": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(first, copy)


def test_fp32_is_effective_where_it_was_asked_for(backend: Backend) -> None:
    """OpenVINO would run it in bf16 by itself, with an error of about 4e-3."""
    session = load(backend, CONTRACT_MODELS / "digits-cnn.onnx")
    pixels = np.random.default_rng(0).uniform(0, 16, (16, 64)).astype(np.float32)
    reference = load(registry.backend("onnxruntime"), CONTRACT_MODELS / "digits-cnn.onnx")
    assert session.precision == "fp32"
    got, wanted = session.run({"pixels": pixels}), reference.run({"pixels": pixels})
    np.testing.assert_allclose(got["logits"], wanted["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_lower_precision_is_effective_or_refused(backend: Backend, precision: str) -> None:
    model = tiny_models.artifact(CONTRACT_MODELS / "digits-mlp.onnx", backend)
    refused = pytest.raises(
        BackendError, match=rf"precision must be .*{precision}|execute {precision}"
    )
    expected = nullcontext() if runs(backend, precision) else refused
    with expected:
        session = backend.open(model, precision=precision, device="CPU", threads=1)
        assert session.precision == precision


def runs(backend: Backend, precision: str) -> bool:
    """Whether this CPU executes *precision*, by what the library itself says."""
    if precision == "fp32" or backend.name == "onnxruntime":
        return precision == "fp32"
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return precision.upper() in capabilities


def test_unknown_precision_and_device_are_refused(backend: Backend, tmp_path: Path) -> None:
    artifact = tiny_models.artifact(tiny_models.linear(tmp_path / "net.onnx"), backend)
    with pytest.raises(BackendError, match=r"precision must be .*fp32.*, got 'int4'"):
        backend.open(artifact, precision="int4", device="CPU", threads=1)
    with pytest.raises(BackendError, match=r"device must be .*CPU.*, got 'TOASTER'"):
        backend.open(artifact, precision="fp32", device="TOASTER", threads=1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_thread_count_is_honoured(backend: Backend) -> None:
    path = CONTRACT_MODELS / "digits-cnn-large.onnx"
    pixels = np.ones((8, 64), np.float32)
    for threads in (1, 2):
        session = load(backend, path, threads=threads)
        session.run({"pixels": pixels})
        assert session.threads == threads
        assert session.device == "CPU"
        session.close()


def test_onnxruntime_starts_one_thread_less_than_asked() -> None:
    """The calling thread is one of them."""
    backend = registry.backend("onnxruntime")
    artifact = tiny_models.artifact(CONTRACT_MODELS / "digits-mlp.onnx", backend)
    before = psutil.Process().num_threads()
    session = backend.open(artifact, precision="fp32", device="CPU", threads=3)
    assert psutil.Process().num_threads() - before == 2
    session.close()
    assert psutil.Process().num_threads() == before


def test_calls_from_eight_threads_get_their_own_answers(backend: Backend, tmp_path: Path) -> None:
    session = load(backend, tiny_models.linear(tmp_path / "net.onnx", hidden=256), threads=2)
    batches = [np.full((1 + i % 5, 4), i, np.float32) for i in range(400)]
    wanted = [session.run({"x": x})["logits"] for x in batches]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda x: session.run({"x": x})["logits"], batches))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_closed_session_says_so(backend: Backend, tmp_path: Path) -> None:
    session = load(backend, tiny_models.linear(tmp_path / "net.onnx"))
    session.close()
    session.close()
    with pytest.raises(BackendError, match=r"net\.onnx: the session is closed"):
        session.run({"x": np.ones((1, 4), np.float32)})


def test_closing_frees_memory(backend: Backend, tmp_path: Path) -> None:
    """A session of 8 MB of weights, opened 50 times, would hold 400 MB if it leaked."""
    path = tiny_models.linear(tmp_path / "net.onnx", features=512, hidden=4096)

    def cycle() -> None:
        session = load(backend, path)
        session.run({"x": np.ones((1, 512), np.float32)})
        session.close()

    for _ in range(5):
        cycle()
    gc.collect()
    before = psutil.Process().memory_info().rss
    for _ in range(50):
        cycle()
    gc.collect()
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


def test_truncated_file_is_refused_with_its_path(backend: Backend, tmp_path: Path) -> None:
    whole = (CONTRACT_MODELS / "digits-mlp.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"half\.onnx: \w+ can't load it: .*pars"):
        backend.signature(str(tmp_path / "half.onnx"))


def test_other_files_are_refused_with_their_path(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "note.onnx").write_text("root:x:0:0")
    for name in ("note.onnx", "absent.onnx"):
        with pytest.raises(ArtifactError, match=rf"{name}: \w+ can't load it"):
            backend.signature(str(tmp_path / name))


LACKING = {"onnxruntime": r"Frobnicate \(node 'frob1'\)", "openvino": "Frobnicate"}
UNFIT = {
    "onnxruntime": r"Node \(mm1\) Op \(MatMul\) .*Incompatible dimensions",
    "openvino": r"MatMul \(output 'y'\): Incompatible MatMul matrix dimension\.",
}


def test_operator_that_a_backend_lacks_is_named_in_one_sentence(
    backend: Backend, tmp_path: Path
) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="frob1")
    of = ("float32", ["n", 3])
    path = tiny_models.write(tmp_path / "frob.onnx", [node], {"x": of}, {"y": of})
    says = rf"frob\.onnx: \w+ can't load it: it lacks the operator {LACKING[backend.name]}\.$"
    with pytest.raises(ArtifactError, match=says):
        backend.signature(str(path))


def test_operator_of_another_domain_that_a_backend_lacks_is_named(
    backend: Backend, tmp_path: Path
) -> None:
    node = helper.make_node("Frob", ["x"], ["y"], domain="ai.onnx.ml")
    of = ("float32", ["n", 3])
    path = tiny_models.write(tmp_path / "frob.onnx", [node], {"x": of}, {"y": of})
    with pytest.raises(
        (ArtifactError, BackendError), match=r"lacks the operator ai.onnx.ml.Frob\b"
    ):
        backend.signature(str(path))


def test_node_that_can_not_be_loaded_is_named_in_one_line(backend: Backend, tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="mm1")
    x, y = {"x": ("float32", ["n", 3])}, {"y": ("float32", ["n", 2])}
    weights = {"w": np.ones((7, 2), np.float32)}
    path = tiny_models.write(tmp_path / "mm.onnx", [node], x, y, weights)
    with pytest.raises(ArtifactError, match=UNFIT[backend.name]) as caught:
        backend.signature(str(path))
    text = str(caught.value).replace(str(path), "")
    assert "\n" not in text
    assert len(text) <= 300
    assert ".cpp" not in text
    assert ".hpp" not in text


def test_map_output_says_how_to_export_without_it(tmp_path: Path) -> None:
    """What scikit-learn's exporter makes of a classifier by default."""
    node = helper.make_node(
        "ZipMap", ["x"], ["chances"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
    )
    of = ("float32", ["n", 3])
    path = tiny_models.write(tmp_path / "zipmap.onnx", [node], {"x": of}, {})
    model = onnx.load(path)
    key_to_float = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    output = helper.make_value_info("chances", helper.make_sequence_type_proto(key_to_float))
    model.graph.output.append(output)
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=r"'chances' must be a tensor, got seq.*\"zipmap\": F"):
        registry.backend("onnxruntime").signature(str(path))


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn", "digits-cnn-large"])
def test_backends_agree(model: str) -> None:
    pixels = np.random.default_rng(1).uniform(0, 16, (32, 64)).astype(np.float32)
    path = CONTRACT_MODELS / f"{model}.onnx"
    answers = [load(registry.backend(n), path).run({"pixels": pixels}) for n in INSTALLED]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer["logits"], answers[0]["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif("openvino" not in INSTALLED, reason="openvino is not installed")
def test_importing_openvino_sends_no_telemetry() -> None:
    script = (
        "import scanflow_serve.runtime.backends.ov, sys;"
        "assert sys.modules['openvino_telemetry'] is None;"
        "from openvino.tools.ovc import telemetry_utils;"
        "print(telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub", done.stderr
