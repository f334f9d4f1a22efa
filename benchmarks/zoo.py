"""Architectures in plain torch, as a person would write them; their weights come from a file."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
VOCABULARY, WORDS = 512, 128  # of the encoder


def mlp() -> nn.Module:
    """Return 64-64-10, for images of digits as vectors."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES))


def cnn() -> nn.Module:
    """Return two convolutions and a linear layer, for images (1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, CLASSES),
    )


class Lstm(nn.Module):
    """Two layers over the rows of an image, (8, 8); the last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.head(states[:, -1])


class Classifier(nn.Module):
    """Features, (batch, width), and a linear layer: its weights are what the benchmark fits."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


# Scale of what a block adds. At 1 a deep random network is chaotic: it answers to noise, which no
# trained one does. Training with 0 at first is usual (Goyal et al., 2017, section 5.1).
ADDED = 0.1


def _convolution(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, scale: float = 1.0
) -> list[nn.Module]:
    padding = (size - 1) // 2
    layer = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    norm = nn.BatchNorm2d(outputs)
    nn.init.constant_(norm.weight, scale)
    return [layer, norm]


class BasicBlock(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = _convolution(inputs, outputs, stride=stride)
        self.body = nn.Sequential(*first, nn.ReLU(), *_convolution(outputs, outputs, scale=ADDED))
        same = stride == 1 and inputs == outputs
        self.way = (
            nn.Identity()
            if same
            else nn.Sequential(*_convolution(inputs, outputs, size=1, stride=stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.way(x))


def resnet18() -> nn.Module:
    """Return ResNet-18, for images (3, 224, 224).

    Source:
        He et al., Deep residual learning for image recognition (CVPR 2016), table 1.
    """
    layers = [*_convolution(3, 64, size=7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    width = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(width, outputs, stride), BasicBlock(outputs, outputs, 1)]
        width = outputs
    return Classifier(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), width)


class InvertedResidual(nn.Module):
    """A wide depthwise convolution between two narrow layers."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers = [*_convolution(inputs, wide, size=1), nn.ReLU6()] if expansion > 1 else []
        layers += [*_convolution(wide, wide, stride=stride, groups=wide), nn.ReLU6()]
        self.same = stride == 1 and inputs == outputs
        scale = ADDED if self.same else 1.0
        self.body = nn.Sequential(*layers, *_convolution(wide, outputs, size=1, scale=scale))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.same else self.body(x)


def mobilenet_v2() -> nn.Module:
    """Return MobileNetV2, for images (3, 224, 224).

    Source:
        Sandler et al., MobileNetV2 (CVPR 2018), table 2.
    """
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    layers: list[nn.Module] = [*_convolution(3, 32, stride=2), nn.ReLU6()]
    width = 32
    for expansion, outputs, count, stride in stages:
        for number in range(count):
            step = stride if number == 0 else 1
            layers.append(InvertedResidual(width, outputs, step, expansion))
            width = outputs
    layers += [*_convolution(width, 1280, size=1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)]
    return Classifier(nn.Sequential(*layers, nn.Flatten()), 1280)


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, normalised before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, words, width = x.shape
        mixed = self.mix(self.norm(x)).view(batch, words, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, words, width))
        return x + self.feed(self.norm_after(x))


class Encoder(nn.Module):
    """A transformer encoder over token ids, (words,), and the mean of its last states.

    Source:
        Vaswani et al., Attention is all you need (NeurIPS 2017), section 3; normalisation before
        each sublayer as in Xiong et al., On layer normalization (ICML 2020).
    """

    def __init__(self, width: int = 256, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.places = nn.Parameter(torch.randn(WORDS, width))
        self.layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(self.words(x) + self.places)).mean(dim=1)


def encoder() -> nn.Module:
    """Return a transformer encoder of four layers, 256 wide, for 128 token ids."""
    return Classifier(Encoder(), 256)
