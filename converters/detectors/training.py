"""Training of an autoencoder: denoising, seeded, stopped early. In a child process."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from scanflow_serve.converters.detectors.networks import Detector, autoencoder
from scanflow_serve.runtime.checks.recipes import Recipe
from scanflow_serve.runtime.checks.scaling import Scaling, error_scale
from scanflow_serve.runtime.tensors import Array

NOISE = 0.1  # sd, in those of the features
MASKED = 0.1  # of the values, set to their mean
HELD_OUT = 0.1  # of the fit split, to stop early by
PATIENCE = 20  # epochs without a better held-out error
LEARNING_RATE = 2e-3
BATCH = 64
MOST_WINDOWS = 20_000  # of an epoch: overlapping ones say little more

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Training:
    """A trained detector, and how it went.

    Attributes:
        epochs: Of training, until the last one that was better.
        error: Mean squared error of held-out windows, in units of their variance.
        constant: Places of the features that did not vary.
    """

    detector: Detector
    epochs: int
    error: float
    constant: tuple[int, ...]


def train(windows: Array, made_by: Recipe, progress: Progress) -> Training:
    """Return the detector of *windows*, shape (windows, steps, features), float32.

    Raises:
        ValueError: Nothing varies, or so little that any bottleneck would copy it.
    """
    torch.manual_seed(made_by.seed)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same weights
    taken = np.linspace(0, len(windows) - 1, min(len(windows), MOST_WINDOWS)).astype(int)
    scaling = Scaling.fit(windows)
    scaled = torch.tensor(scaling.apply(windows[taken]), dtype=torch.float32)
    network = autoencoder(made_by, windows.shape[2], scaling.varying)
    learned, held_out = _parted(scaled, made_by)
    epochs, error = _fit(network, learned, held_out, made_by, progress)
    with torch.inference_mode():
        squared = (scaled - network(scaled)[0]) ** 2
    scale = torch.tensor(error_scale(squared.double().numpy(), scaling))
    detector = Detector(network, scaling, scale, flat=made_by.steps == 1).eval()
    return Training(detector, epochs, error, scaling.constant)


def _parted(windows: Tensor, made_by: Recipe) -> tuple[Tensor, Tensor]:
    """Return what is learned and what is held out: of overlapping windows the last ones."""
    count = max(1, int(len(windows) * HELD_OUT))
    if made_by.steps > 1:
        return windows[: max(1, len(windows) - count - made_by.steps + 1)], windows[-count:]
    order = torch.randperm(len(windows))
    return windows[order[count:]], windows[order[:count]]


def _fit(
    network: nn.Module, learned: Tensor, held_out: Tensor, made_by: Recipe, progress: Progress
) -> tuple[int, float]:
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    best, best_epoch, kept = float("inf"), 0, deepcopy(network.state_dict())
    for epoch in range(1, made_by.epochs + 1):
        _epoch(network, learned, optimizer)
        with torch.inference_mode():
            error = float(((held_out - network(held_out)[0]) ** 2).mean())
        progress(epoch, made_by.epochs, f"held-out error {error:.4f}")
        if error < best:
            best, best_epoch, kept = error, epoch, deepcopy(network.state_dict())
        if epoch - best_epoch >= PATIENCE:
            break
    network.load_state_dict(kept)
    return best_epoch, best


def _epoch(network: nn.Module, learned: Tensor, optimizer: torch.optim.Optimizer) -> None:
    order = torch.randperm(len(learned))
    for at in range(0, len(order), BATCH):
        index = order[at : at + BATCH]
        clean = learned[index]
        noisy = clean + NOISE * torch.randn_like(clean)
        noisy = noisy * (torch.rand_like(clean) >= MASKED)
        loss = ((clean - network(noisy)[0]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
