from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np
import onnx
import pytest
import torch
from origin_worlds import Find, artifact, assert_answers_alike
from safetensors.torch import save_file

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

pytestmark = pytest.mark.slow
NET = """
    import torch
    from . import blocks


    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = blocks.linear(8, 3)

        def forward(self, image):
            return self.layer(image.flatten(1))


    def net():
        return Net()


    def number():
        return 7


    def broken():
        raise LookupError("no such architecture")
"""
BLOCKS = """
    import torch


    def linear(features, classes):
        return torch.nn.Linear(features, classes)
"""
INPUTS = {"image": {"shape": [-1, 2, 4]}}
RANDOM = np.random.default_rng(0)


class Evil:
    """A pickle of it writes a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._mark,))


@pytest.fixture
def module(folder: Path) -> Path:
    (folder / "blocks.py").write_text(dedent(BLOCKS))
    path = folder / "nets.py"
    path.write_text(dedent(NET))
    return path


def rows(count: int = 5) -> dict[str, np.ndarray]:
    return {"image": RANDOM.random((count, 2, 4), dtype=np.float32)}


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 3)
    return {f"layer.{name}": value for name, value in layer.state_dict().items()}


def test_factory_with_safetensors_exports_with_a_dynamic_batch(
    find: Find, folder: Path, module: Path, tmp_path: Path
) -> None:
    save_file(weights(), folder / "net.safetensors")
    origin = find("torch:nets:net", weights="net.safetensors", inputs=INPUTS)
    exported = origin.export(tmp_path / "out")
    signature = artifact(exported).signature
    assert signature.inputs == (TensorSpec("image", "float32", (None, 2, 4)),)
    assert signature.outputs == (TensorSpec("output", "float32", (None, 3)),)
    inputs = rows(70)  # more than one portion
    reference = assert_answers_alike(origin, exported, inputs)
    expected = inputs["image"].reshape(70, 8) @ weights()["layer.weight"].numpy().T
    bias = weights()["layer.bias"].numpy()
    np.testing.assert_allclose(reference["output"], expected + bias, rtol=1e-5, atol=1e-6)


def test_export_names_no_file_of_this_machine(
    find: Find, folder: Path, module: Path, tmp_path: Path
) -> None:
    exported = find("torch:nets:net", inputs=INPUTS).export(tmp_path / "out")
    assert str(folder).encode() not in exported.path.read_bytes()
    assert b"site-packages" not in exported.path.read_bytes()
    assert [d.dim_param for d in onnx.load(exported.path).graph.input[0].type.tensor_type.shape.dim]


def test_plain_state_dict_is_loaded_without_unpickling_objects(
    find: Find, folder: Path, module: Path
) -> None:
    torch.save(weights(), folder / "net.pt")
    origin = find("torch:nets:net", weights="net.pt", inputs=INPUTS)
    assert origin.reference(rows())["output"].shape == (5, 3)


def test_shapes_are_read_from_sample_rows_where_the_policy_gives_none(
    find: Find, module: Path
) -> None:
    sample = {"pixels": np.zeros((4, 2, 4))}
    origin = find("torch:nets:net", sample=sample)
    assert origin.reference(rows())["output"].shape == (5, 3)


def test_module_without_shapes_is_told_which_line_to_write(find: Find, module: Path) -> None:
    with pytest.raises(ArtifactError, match=r"inputs: \{image: \{shape: \[-1, …\]\}\}"):
        find("torch:nets:net").reference(rows())


def test_pickled_weights_are_refused_unread_and_the_line_of_consent_is_named(
    find: Find, folder: Path, module: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    torch.save({"layer.weight": Evil(mark)}, folder / "net.pt")
    origin = find("torch:nets:net", weights="net.pt", inputs=INPUTS)
    with pytest.raises(ArtifactError, match='trust_pickle: "I trust this file"'):
        origin.reference(rows())
    assert not mark.exists()


def test_consent_loads_a_pickle(find: Find, folder: Path, module: Path) -> None:
    torch.save({"state_dict": weights(), "made": Path("here")}, folder / "net.pt")
    with pytest.raises(ArtifactError, match="must not run code as it is loaded, got a pickle"):
        find("torch:nets:net", weights="net.pt", inputs=INPUTS).reference(rows())
    trusted = find(
        "torch:nets:net", weights="net.pt", inputs=INPUTS, trust_pickle="I trust this file"
    )
    assert trusted.reference(rows())["output"].shape == (5, 3)


def test_pickled_module_needs_consent_and_then_answers(
    find: Find, folder: Path, tmp_path: Path
) -> None:
    torch.save(torch.nn.Linear(4, 2), folder / "net.pth")
    inputs = {"x": {"shape": [-1, 4]}}
    with pytest.raises(ArtifactError, match=r"net\.pth must not run code as it is loaded"):
        find("net.pth", inputs=inputs).export(tmp_path / "out")
    origin = find("net.pth", inputs=inputs, trust_pickle="I trust this file")
    exported = origin.export(tmp_path / "out")
    assert_answers_alike(origin, exported, {"x": np.ones((3, 4), np.float32)})


def test_weights_of_another_network_are_refused_by_name(
    find: Find, folder: Path, module: Path
) -> None:
    save_file({"head.weight": torch.zeros(1)}, folder / "net.safetensors")
    origin = find("torch:nets:net", weights="net.safetensors", inputs=INPUTS)
    with pytest.raises(ArtifactError, match=r"must hold the weights of nets:net, got .*layer\.w"):
        origin.reference(rows())


def test_truncated_safetensors_are_refused(find: Find, folder: Path, module: Path) -> None:
    save_file(weights(), folder / "net.safetensors")
    path = folder / "net.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    origin = find("torch:nets:net", weights="net.safetensors", inputs=INPUTS)
    with pytest.raises(ArtifactError, match=r"net\.safetensors can't be loaded"):
        origin.reference(rows())


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("number", r"nets:number\(\) must return a torch\.nn\.Module, got int"),
        ("broken", r"got LookupError: no such architecture"),
        ("absent", r"nets:absent must be a function or a class, got nothing"),
    ],
)
def test_factory_that_makes_no_module_is_refused(
    find: Find, module: Path, factory: str, text: str
) -> None:
    with pytest.raises(ArtifactError, match=text):
        find(f"torch:nets:{factory}", inputs=INPUTS).reference(rows())


def test_factory_that_ends_the_process_is_a_sentence(find: Find, folder: Path) -> None:
    (folder / "nets.py").write_text("import os\n\n\ndef net():\n    os.abort()\n")
    with pytest.raises(ArtifactError, match="the process that loads it was ended by SIGABRT"):
        find("torch:nets:net", inputs=INPUTS).reference(rows())


def test_branch_on_values_is_refused_with_the_cure(
    find: Find, folder: Path, tmp_path: Path
) -> None:
    (folder / "nets.py").write_text(
        dedent("""
        import torch

        class Branch(torch.nn.Module):
            def forward(self, x):
                return x if x.sum() > 0 else -x
        """)
    )
    origin = find("torch:nets:Branch", inputs={"x": {"shape": [-1, 4]}})
    with pytest.raises(ArtifactError, match="write it without branches on values"):
        origin.export(tmp_path / "out")


def test_several_inputs_and_outputs_keep_their_names(
    find: Find, folder: Path, tmp_path: Path
) -> None:
    (folder / "nets.py").write_text(
        dedent("""
        import torch

        class Two(torch.nn.Module):
            def forward(self, tokens, scale):
                values = tokens.float() * scale
                return {"values": values, "total": values.sum(dim=1)}
        """)
    )
    inputs = {"scale": {"shape": [-1, 1]}, "tokens": {"shape": [-1, -1], "dtype": "int64"}}
    origin = find("torch:nets:Two", inputs=inputs)
    exported = origin.export(tmp_path / "out")
    data = {
        "tokens": np.arange(21).reshape(3, 7),
        "scale": np.array([[1.0], [2.0], [3.0]], np.float32),
    }
    reference = assert_answers_alike(origin, exported, data)
    assert list(reference) == ["values", "total"]


def test_digest_follows_weights_and_every_module_beside_the_policy(
    find: Find, folder: Path, module: Path
) -> None:
    save_file(weights(), folder / "net.safetensors")

    def digest() -> str:
        return find("torch:nets:net", weights="net.safetensors", inputs=INPUTS).digest()

    first = digest()
    assert digest() == first
    (folder / "blocks.py").write_text(dedent(BLOCKS) + "\n# edited\n")
    second = digest()
    save_file({name: value + 1 for name, value in weights().items()}, folder / "net.safetensors")
    assert len({first, second, digest()}) == 3


def test_tools_name_what_exports(find: Find, module: Path) -> None:
    tools = find("torch:nets:net", inputs=INPUTS).tools()
    assert tools["torch"] == torch.__version__
    assert set(tools) == {"torch", "onnx", "onnxscript"}
