"""The models that are converted, with rows to calibrate and to judge them on.

Digits models are trained. A randomly initialised network gives nearly the same logits to every
input, so that agreement on them would say nothing: it gets BatchNorm statistics of its own inputs,
and its last layer is fitted to classes of structured inputs, so hard that some rows lie at the
boundary of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import zoo
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]

SEED = 0
FITTED, JUDGED = 256, 200  # rows of made-up inputs
CALIBRATED = 96  # rows; ranges hardly move after that, and NNCF runs each by itself
PORTION = 32  # rows a call
IMAGE = 224


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs, shape (rows, …), and their classes."""

    inputs: Array
    classes: Array


@dataclass(frozen=True, slots=True)
class Data:
    """Rows to fit and to calibrate on, and rows that nothing was fitted to."""

    fitted: Rows
    judged: Rows


@dataclass(frozen=True, slots=True)
class Subject:
    """One model.

    Attributes:
        key: Its name in the policy.
        title: For people.
        data: Makes its rows.
        write: Writes its weights, fitted to rows, into a folder.
        factory: Of `zoo`; empty for an estimator.
        digits: Trained on scikit-learn's digits.
    """

    key: str
    title: str
    data: Callable[[], Data]
    write: Callable[[Subject, Path, Rows], None]
    factory: str = ""
    digits: bool = False

    @property
    def weights(self) -> str:
        """Return the name of the file that holds what was trained."""
        return f"{self.key}.{'safetensors' if self.factory else 'skops'}"


def digits(*shape: int) -> Data:
    """Return half of scikit-learn's digits to fit, and half to judge, each row of *shape*."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, classes = load_digits(return_X_y=True)
    halves = train_test_split(
        (images / 16).astype(np.float32),
        classes,
        test_size=0.5,
        random_state=SEED,
        stratify=classes,
    )
    fit, judge, fit_classes, judge_classes = halves
    return Data(
        Rows(fit.reshape(-1, *shape), fit_classes), Rows(judge.reshape(-1, *shape), judge_classes)
    )


def gratings(clutter: float) -> Data:
    """Return images (3, 224, 224) of a class's two gratings in its colour.

    Args:
        clutter: Strength of another grating and of noise; as much as the network can take and
            still tell most apart.
    """
    random = np.random.default_rng(SEED)
    angles, waves = (
        random.uniform(0, np.pi, (zoo.CLASSES, 2)),
        random.uniform(4, 24, (zoo.CLASSES, 2)),
    )
    colours = random.normal(size=(zoo.CLASSES, 3)).astype(np.float32)
    classes = random.integers(zoo.CLASSES, size=FITTED + JUDGED)
    images = np.empty((len(classes), 3, IMAGE, IMAGE), np.float32)
    for image, kind in zip(images, classes, strict=True):
        own = sum(_grating(random, a, w) for a, w in zip(angles[kind], waves[kind], strict=True))
        other = _grating(random, random.uniform(0, np.pi), random.uniform(4, 24))
        strength = random.uniform(0.5, 1.0)
        image[:] = strength * own * colours[kind][:, None, None]
        image += clutter * other * random.normal(size=(3, 1, 1))
        image += random.normal(0, clutter / 2, image.shape)
    return _split(images, classes)


def topics() -> Data:
    """Return token ids (128,), drawn from a class's words and, mostly, from everybody's."""
    random = np.random.default_rng(SEED)
    own = random.dirichlet(np.full(zoo.VOCABULARY, 0.1), zoo.CLASSES)
    common = random.dirichlet(np.full(zoo.VOCABULARY, 0.5))
    classes = random.integers(zoo.CLASSES, size=FITTED + JUDGED)
    share = random.uniform(0.1, 0.5, len(classes))
    rows = [
        random.choice(zoo.VOCABULARY, zoo.WORDS, p=part * own[kind] + (1 - part) * common)
        for kind, part in zip(classes, share, strict=True)
    ]
    return _split(np.stack(rows).astype(np.int64), classes)


def trained(subject: Subject, folder: Path, rows: Rows) -> None:
    """Train all weights of *subject* on *rows*, for a few seconds."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # so small a network only waits for a second one
    model = getattr(zoo, subject.factory)()
    inputs, classes = torch.from_numpy(rows.inputs), torch.from_numpy(rows.classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(25):
        for chosen in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[chosen]), classes[chosen])
            loss.backward()
            optimizer.step()
    save_file(model.state_dict(), folder / subject.weights)


def fitted(subject: Subject, folder: Path, rows: Rows) -> None:
    """Give a random *subject* statistics of its inputs, and fit its last layer to *rows*."""
    import torch
    from safetensors.torch import save_file
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    torch.manual_seed(SEED)
    model = getattr(zoo, subject.factory)()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # the mean over all that it sees
        model.train()
        for part in _portions(rows.inputs[:CALIBRATED]):
            model.features(torch.from_numpy(part))
        model.eval()
        parts = [model.features(torch.from_numpy(part)) for part in _portions(rows.inputs)]
        features = torch.cat(parts).double().numpy()
        centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        head = LogisticRegression(C=0.01, max_iter=300)
        with threadpool_limits(1):
            head.fit((features - centre) / spread, rows.classes)
        weight = head.coef_ / spread
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.from_numpy(head.intercept_ - weight @ centre))
    save_file(model.state_dict(), folder / subject.weights)


def grown(subject: Subject, folder: Path, rows: Rows) -> None:
    """Grow a random forest."""
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(100, random_state=SEED).fit(rows.inputs, rows.classes)
    skops.io.dump(forest, folder / subject.weights)


SUBJECTS = {
    subject.key: subject
    for subject in (
        Subject("mlp", "MLP 64-64-10", lambda: digits(64), trained, "mlp", digits=True),
        Subject("cnn", "small CNN", lambda: digits(1, 8, 8), trained, "cnn", digits=True),
        Subject("lstm", "LSTM, 2 x 64", lambda: digits(8, 8), trained, "Lstm", digits=True),
        Subject("forest", "random forest, 100 trees", lambda: digits(64), grown, digits=True),
        Subject("encoder", "transformer encoder, 4 x 256", topics, fitted, "encoder"),
        Subject(
            "mobilenet-v2", "MobileNetV2, 224 x 224", lambda: gratings(0.2), fitted, "mobilenet_v2"
        ),
        Subject("resnet-18", "ResNet-18, 224 x 224", lambda: gratings(0.6), fitted, "resnet18"),
    )
}


def _grating(random: np.random.Generator, angle: float, waves: float) -> NDArray[np.float32]:
    ramp = np.arange(IMAGE, dtype=np.float32) / IMAGE * 2 * np.pi * waves
    slope = ramp[:, None] * np.sin(angle) + ramp * np.cos(angle)
    return np.sin(slope + random.uniform(0, 2 * np.pi)).astype(np.float32)


def _split(inputs: Array, classes: Array) -> Data:
    return Data(Rows(inputs[:FITTED], classes[:FITTED]), Rows(inputs[FITTED:], classes[FITTED:]))


def _portions(inputs: Array) -> Iterator[Array]:
    for start in range(0, len(inputs), PORTION):
        yield inputs[start : start + PORTION]
