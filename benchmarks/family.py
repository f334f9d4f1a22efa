"""A trained family of image classifiers that cost 15 to 100 ms a row: wider is slower and better.

Scikit-learn's digits, enlarged to 192 x 192; two convolutions of random filters, their answers
averaged over parts of the image, a linear layer fitted in closed form (ridge regression on the
classes). More filters over more parts see more, so accuracy really rises with cost.

So heavy because generator and server share the machine: at five times the capacity the refusals
alone, at 0.2 ms each, must not be what takes the cores.

Source:
    Coates, Lee, Ng (2011), An analysis of single-layer networks in unsupervised feature learning:
    accuracy by the number of features, learned or random.
    Huang, Zhu, Siew (2006), Extreme learning machine: random features, fitted head.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats: TypeAlias = NDArray[np.floating]

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests/contract/data"
SEED = 0
CLASSES = 10
SIDE = 192  # pixels; of 8 in the data
RIDGE = 0.01  # of the mean eigenvalue
PORTION = 8  # rows a call


@dataclass(frozen=True, slots=True)
class Member:
    """One network.

    Attributes:
        filters: Of each convolution.
        grid: Parts, across and down, over which answers are averaged; tells where things are.
    """

    name: str
    filters: int
    grid: int


MEMBERS = (
    Member("digits-96", 96, 1),
    Member("digits-128", 128, 1),
    Member("digits-176", 176, 1),
    Member("digits-256", 256, 2),
)
FASTEST, MOST_ACCURATE = MEMBERS[0].name, MEMBERS[-1].name


@dataclass(frozen=True, slots=True)
class Rows:
    """Pixels, shape (rows, 64), 0 to 16, and classes."""

    pixels: NDArray[np.float32]
    classes: NDArray[np.int64]


def fitted() -> Rows:
    """Return the rows that heads are fitted to."""
    return _rows("train")


def judged() -> Rows:
    """Return the rows that nothing was fitted to; they are what is asked, too."""
    return _rows("test")


def build(folder: Path, members: tuple[Member, ...] = MEMBERS, side: int = SIDE) -> None:
    """Write the members that *folder* lacks as ONNX files, and ``judged.npz`` beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = judged()
    np.savez(folder / "judged.npz", pixels=rows.pixels, label=rows.classes)
    for member in members:
        path = folder / f"{member.name}.onnx"
        if not path.exists():
            onnx.save(_network(member, side), path)
            (folder / "accuracies.json").unlink(missing_ok=True)


def accuracies(folder: Path, members: tuple[Member, ...] = MEMBERS) -> dict[str, float]:
    """Return the share of judged rows that each member in *folder* tells rightly, by name."""
    known = folder / "accuracies.json"
    if known.exists():
        kept: dict[str, float] = json.loads(known.read_text())
        return kept
    rows, found = judged(), {}
    for member in members:
        session = onnxruntime.InferenceSession(folder / f"{member.name}.onnx")
        logits = _all(session, rows.pixels)
        found[member.name] = float((logits.argmax(axis=1) == rows.classes).mean())
    known.write_text(json.dumps(found))
    return found


def _all(session: onnxruntime.InferenceSession, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = [
        session.run(None, {"pixels": pixels[at : at + PORTION]})[0]
        for at in range(0, len(pixels), PORTION)
    ]
    return np.concatenate(parts)


def _rows(name: str) -> Rows:
    held = np.load(DATA / f"digits-{name}.npz")
    return Rows(held["pixels"].astype(np.float32), held["label"].astype(np.int64))


def _network(member: Member, side: int) -> onnx.ModelProto:
    """Return *member* with its head fitted."""
    trunk = onnxruntime.InferenceSession(_graph(member, side).SerializeToString())
    rows = fitted()
    features = _all(trunk, rows.pixels).astype(np.float64)
    return _graph(member, side, _ridge(features, rows.classes))


def _ridge(features: Floats, classes: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return weights, (features, classes), and offsets that tell the classes apart."""
    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-3
    scaled = (features - centre) / spread
    wanted = np.eye(CLASSES)[classes] - 1 / CLASSES
    alike = scaled @ scaled.T  # rows are fewer than features: the dual form is the smaller
    strength = RIDGE * np.trace(alike) / len(alike)
    weights = scaled.T @ np.linalg.solve(alike + strength * np.eye(len(alike)), wanted)
    weights = weights / spread[:, None]
    return weights, 1 / CLASSES - centre @ weights


def _graph(member: Member, side: int, head: tuple[Floats, Floats] | None = None) -> onnx.ModelProto:
    """Return the network; its output is the features where *head* is None."""
    random = np.random.default_rng(SEED)
    first = random.normal(size=(member.filters, 1, 5, 5))
    first -= first.mean(axis=(1, 2, 3), keepdims=True)
    first /= np.sqrt((first**2).sum(axis=(1, 2, 3), keepdims=True))
    second = random.normal(size=(member.filters, member.filters, 3, 3))
    second *= np.sqrt(2 / (9 * member.filters))  # He et al. (2015): keeps the scale
    second -= second.mean(axis=(1, 2, 3), keepdims=True)
    weights: dict[str, NDArray[np.generic]] = {
        "white": np.array(16, np.float32),
        "square": np.array([-1, 1, 8, 8], np.int64),
        "larger": np.array([1, 1, side / 8, side / 8], np.float32),
        "first": first.astype(np.float32),
        "second": second.astype(np.float32),
    }
    node = helper.make_node
    part = side // 2 // member.grid
    nodes = [
        node("Div", ["pixels", "white"], ["scaled"]),
        node("Reshape", ["scaled", "square"], ["small"]),
        node("Resize", ["small", "", "larger"], ["image"], mode="linear"),
        node("Conv", ["image", "first"], ["edges"], pads=[2] * 4),
        node("Relu", ["edges"], ["seen"]),
        node("MaxPool", ["seen"], ["coarse"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["coarse", "second"], ["shapes"], pads=[1] * 4),
        node("Relu", ["shapes"], ["found"]),
        node("AveragePool", ["found"], ["means"], kernel_shape=[part] * 2, strides=[part] * 2),
        node("Flatten", ["means"], ["features"]),
    ]
    output, width = "features", member.filters * member.grid**2
    if head is not None:
        weights |= {"head": head[0].astype(np.float32), "offset": head[1].astype(np.float32)}
        nodes.append(node("Gemm", ["features", "head", "offset"], ["logits"]))
        output, width = "logits", CLASSES
    graph = helper.make_graph(
        nodes,
        member.name,
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)
