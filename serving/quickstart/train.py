"""Trains the quickstart's models on scikit-learn's digits, and writes them as ONNX files.

Run it from a checkout, with the extra ``quickstart``::

    python -m scanflow_serve.serving.quickstart.train

It writes ``models/``, ``data/`` and ``images/`` beside itself, and ``manifest.json``: hashes of
what went in and out, and accuracies as ONNX Runtime measures them. Two seconds to a minute a
model, without a deep-learning framework: the filters of the convolutional networks are k-means
centroids of image patches (Coates & Ng, "Learning feature representations with k-means", 2012),
so that only their last layer is a fit, and scikit-learn does both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanflow_serve.runtime.tensors import Array

if TYPE_CHECKING:
    import onnx

FOLDER = Path(__file__).parent
SEED = 0
TRAIN_ROWS, VALIDATION_ROWS = 1000, 300  # of 1,797; the rest is the test set
WHITE = 16.0  # largest intensity of a pixel
OPSET = 17  # read by ONNX Runtime 1.20 and OpenVINO 2025.2, and newer
IR_VERSION = 8
CONVOLUTIONS = {"digits-cnn": (16, 3), "digits-cnn-large": (128, 5)}  # filters, width


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of one purpose: *pixels* float32 (n, 64) in 0..16, *label* int64 (n,)."""

    pixels: Array
    label: Array


def splits() -> dict[str, Split]:
    """Return the rows to train, to validate and to test, stratified by class, disjoint."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels, label = digits.data.astype(np.float32), digits.target.astype(np.int64)
    rows = np.arange(len(label))
    train, rest = train_test_split(
        rows, train_size=TRAIN_ROWS, stratify=label, random_state=SEED, shuffle=True
    )
    validation, test = train_test_split(
        rest, train_size=VALIDATION_ROWS, stratify=label[rest], random_state=SEED, shuffle=True
    )
    parts = {"train": train, "validation": validation, "test": test}
    return {name: Split(pixels[chosen], label[chosen]) for name, chosen in parts.items()}


def shifted(split: Split) -> Split:
    """Return the rows, and each of them moved by one pixel up, down, left and right."""
    images = np.pad(split.pixels.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), (2, 1), (0, 1), (1, 2), (1, 0)]
    moved = [images[:, row : row + 8, column : column + 8] for row, column in moves]
    return Split(np.concatenate(moved).reshape(-1, 64), np.tile(split.label, len(moves)))


def windows(pixels: Array, width: int) -> Array:
    """Return every image's *width*-wide patches, zero-padded: shape (n, 8, 8, width * width)."""
    edge = width // 2
    images = np.pad(pixels.reshape(-1, 8, 8) / WHITE, ((0, 0), (edge, edge), (edge, edge)))
    patches = np.lib.stride_tricks.sliding_window_view(images, (width, width), axis=(1, 2))
    return patches.reshape(*patches.shape[:3], width * width)


def filters(pixels: Array, count: int, width: int) -> Array:
    """Return *count* zero-mean unit filters, shape (count, width * width): k-means of patches."""
    from sklearn.cluster import KMeans

    patches = windows(pixels, width).reshape(-1, width * width)
    patches = patches[patches.std(axis=1) > 0.05]  # not the empty corners
    patches = patches - patches.mean(axis=1, keepdims=True)
    patches /= np.linalg.norm(patches, axis=1, keepdims=True)
    found = KMeans(count, n_init=1, max_iter=50, random_state=SEED).fit(patches).cluster_centers_
    found = found - found.mean(axis=1, keepdims=True)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def features(pixels: Array, kernels: Array, width: int) -> Array:
    """Return what the convolutional part computes: shape (n, filters * 16), channels first."""
    maps = np.maximum(windows(pixels, width) @ kernels.T, 0)
    pooled: Array = maps.reshape(-1, 4, 2, 4, 2, len(kernels)).max(axis=(2, 4))
    return np.moveaxis(pooled, -1, 1).reshape(len(pooled), -1)


def train_linear(train: Split) -> onnx.ModelProto:
    """Return softmax regression: one matrix."""
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression(C=0.1, max_iter=2000).fit(train.pixels / WHITE, train.label)
    weights = {"w": fit.coef_.T / WHITE, "b": fit.intercept_}
    return model([("Gemm", ["pixels", "w", "b"], "logits", {})], weights)


def train_mlp(train: Split) -> onnx.ModelProto:
    """Return a network with one hidden layer of 32."""
    from sklearn.neural_network import MLPClassifier

    fit = MLPClassifier((32,), alpha=1e-3, max_iter=500, random_state=SEED)
    fit.fit(train.pixels / WHITE, train.label)
    (w1, w2), (b1, b2) = fit.coefs_, fit.intercepts_
    nodes: Nodes = [
        ("Gemm", ["pixels", "w1", "b1"], "sums", {}),
        ("Relu", ["sums"], "hidden", {}),
        ("Gemm", ["hidden", "w2", "b2"], "logits", {}),
    ]
    return model(nodes, {"w1": w1 / WHITE, "b1": b1, "w2": w2, "b2": b2})


def train_cnn(train: Split, count: int, width: int) -> onnx.ModelProto:
    """Return a convolutional network: *count* filters, rectified, 2x2 maxima, softmax layer."""
    from sklearn.linear_model import LogisticRegression

    kernels = filters(train.pixels, count, width)
    rows = shifted(train)
    fit = LogisticRegression(C=1.0, max_iter=500)
    fit.fit(features(rows.pixels, kernels, width), rows.label)
    nodes: Nodes = [
        ("Reshape", ["pixels", "image_shape"], "image", {}),
        ("Conv", ["image", "kernels"], "sums", {"pads": [width // 2] * 4}),
        ("Relu", ["sums"], "maps", {}),
        ("MaxPool", ["maps"], "pooled", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Flatten", ["pooled"], "features", {}),
        ("Gemm", ["features", "w", "b"], "logits", {}),
    ]
    weights = {
        "image_shape": np.array([-1, 1, 8, 8]),
        "kernels": kernels.reshape(count, 1, width, width) / WHITE,
        "w": fit.coef_.T,
        "b": fit.intercept_,
    }
    return model(nodes, weights)


Nodes = list[tuple[str, list[str], str, dict[str, Any]]]  # op, inputs, output, attributes


def model(nodes: Nodes, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """Return the checked ONNX model: ``pixels`` float32 (batch, 64) to ``logits`` (batch, 10)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    arrays = {
        name: value if value.dtype == np.int64 else value.astype(np.float32)
        for name, value in weights.items()
    }
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [out], name=out, **at) for op, inputs, out, at in nodes],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="scanflow-serve quickstart",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def train_all(train: Split) -> dict[str, onnx.ModelProto]:
    """Return the models by name, the quickest first."""
    networks = {name: train_cnn(train, *size) for name, size in CONVOLUTIONS.items()}
    return {"digits-linear": train_linear(train), "digits-mlp": train_mlp(train)} | networks


def classify(network: onnx.ModelProto, pixels: Array) -> Array:
    """Return the class of each row, int64 (n,), by ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    (logits,) = ReferenceEvaluator(network).run(None, {"pixels": pixels})
    classes: Array = np.argmax(logits, axis=1)
    return classes


def write_images(folder: Path, networks: Mapping[str, onnx.ModelProto], test: Split) -> None:
    """Write a PNG of each digit: the first test row of its class that every model reads rightly."""
    from PIL import Image

    classes = np.stack([classify(network, test.pixels) for network in networks.values()])
    right = (classes == test.label).all(axis=0)
    for digit in range(10):
        row = int(np.flatnonzero(right & (test.label == digit))[0])
        grey = np.rint(test.pixels[row].reshape(8, 8) * (255 / WHITE)).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{digit}.png")


def digest(path: Path) -> str:
    """Return the file's SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(
    folder: Path, networks: Mapping[str, onnx.ModelProto], data: Mapping[str, Split]
) -> dict[str, Any]:
    """Return hashes of this script and of what it wrote, and the models' accuracies."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".onnx", ".npz", ".png"})
    accuracies = {
        name: {
            part: round(float(np.mean(classify(network, data[part].pixels) == data[part].label)), 4)
            for part in ("validation", "test")
        }
        for name, network in networks.items()
    }
    return {
        "script": digest(Path(__file__)),
        "files": {path.relative_to(folder).as_posix(): digest(path) for path in files},
        "accuracy": accuracies,
    }


def main(folder: Path) -> None:
    """Train, and write everything into *folder*."""
    import onnx

    for part in ("models", "data", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    data = splits()
    for name, rows in data.items():
        np.savez_compressed(
            folder / f"data/digits-{name}.npz", pixels=rows.pixels, label=rows.label
        )
    networks = train_all(data["train"])
    for name, network in networks.items():
        onnx.save(network, folder / f"models/{name}.onnx")
    write_images(folder / "images", networks, data["test"])
    written = manifest(folder, networks, data)
    (folder / "manifest.json").write_text(json.dumps(written, indent=2) + "\n")
    print(json.dumps(written["accuracy"], indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: beside this script")
    main(parser.parse_args().folder)
