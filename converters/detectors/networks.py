"""Autoencoders over standardised rows, and the graph around them that gives the error. In a child.

The graph that is exported takes rows as they come and computes the error itself, so that a device
needs no code of ours to be as right as the trainer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanflow_serve.runtime.checks.recipes import Recipe
from scanflow_serve.runtime.checks.scaling import Scaling


class Dense(nn.Module):
    """Rows, or whole windows, through one narrow layer."""

    def __init__(self, steps: int, features: int, bottleneck: int) -> None:
        super().__init__()
        width = steps * features
        hidden = min(256, max(8, width // 2))
        self.shape = (-1, steps, features)
        self.width = width
        self.encoder = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, bottleneck)
        )
        self.decoder = nn.Sequential(
            nn.Linear(bottleneck, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return *windows* redrawn, and their latents."""
        latent = self.encoder(windows.reshape(-1, self.width))
        return self.decoder(latent).reshape(self.shape), latent


class Recurrent(nn.Module):
    """Windows through an LSTM to one latent, and through another back.

    Source:
        Malhotra et al. (2016), "LSTM-based encoder-decoder for multi-sensor anomaly detection".
    """

    def __init__(self, steps: int, features: int, bottleneck: int) -> None:
        super().__init__()
        hidden = min(64, max(16, 4 * features))
        self.steps = steps
        self.encoder = nn.LSTM(features, hidden, batch_first=True)
        self.narrow = nn.Linear(hidden, bottleneck)
        self.widen = nn.Linear(bottleneck, hidden)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, features)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return *windows* redrawn, and their latents."""
        seen, _ = self.encoder(windows)
        latent = self.narrow(seen[:, -1])
        again = self.widen(latent).unsqueeze(1).expand(-1, self.steps, -1)
        drawn, _ = self.decoder(again)
        return self.out(drawn), latent


class Detector(nn.Module):
    """The exported graph: rows as they come in; ``err``, ``z`` and ``err_feature`` out.

    Args:
        scale: Error of each feature in normal times; inf for constant features.
    """

    mean: Tensor
    inverse_sd: Tensor
    inverse_scale: Tensor

    def __init__(self, autoencoder: nn.Module, scaling: Scaling, scale: Tensor, flat: bool) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.flat = flat
        self.register_buffer("mean", torch.tensor(scaling.mean, dtype=torch.float32))
        self.register_buffer("inverse_sd", torch.tensor(scaling.inverse_sd, dtype=torch.float32))
        self.register_buffer("inverse_scale", (1 / scale).to(torch.float32))
        self.varying = float(scaling.varying)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the error of each row or window, its latent, and the error of each feature."""
        windows = rows.unsqueeze(1) if self.flat else rows
        scaled = (windows - self.mean) * self.inverse_sd
        drawn, latent = self.autoencoder(scaled)
        errors = ((scaled - drawn) ** 2).mean(dim=1) * self.inverse_scale
        return {"err": errors.sum(dim=1) / self.varying, "z": latent, "err_feature": errors}


def autoencoder(made_by: Recipe, features: int, varying: int) -> nn.Module:
    """Return the untrained network of a recipe.

    Args:
        features: Of a row.
        varying: Of these, how many are not constant.

    Raises:
        ValueError: So few vary that any bottleneck would copy them.
    """
    bottleneck = made_by.bottleneck(made_by.steps * varying)
    if bottleneck < 1:
        raise ValueError(
            f"{made_by.method}: reference must have >= 4 features that vary, got {varying}. "
            "Use method: pca, which needs no bottleneck, or ks."
        )
    kind = Recurrent if made_by.method == "lstm" else Dense
    return kind(made_by.steps, features, bottleneck)
