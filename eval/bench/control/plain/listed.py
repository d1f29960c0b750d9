"""A world model as a list of networks, each called for itself. Imports nothing of the project."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class Member(nn.Module):
    """One Gaussian network with learned bounds of its log variance."""

    def __init__(self, inputs: int, outputs: int, hidden: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.SiLU()]
            inputs = width
        self.net = nn.Sequential(*layers, nn.Linear(inputs, 2 * outputs))
        self.high = nn.Parameter(torch.full((outputs,), 0.5))
        self.low = nn.Parameter(torch.full((outputs,), -10.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.net(x).chunk(2, dim=-1)
        log_var = self.high - softplus(self.high - raw)
        return mean, self.low + softplus(log_var - self.low)

    def loss(self, x: Tensor, y: Tensor, decay: list[float]) -> Tensor:
        mean, log_var = self(x)
        loss = ((mean - y) ** 2 * torch.exp(-log_var) + log_var).mean()
        loss = loss + 0.01 * (self.high.sum() - self.low.sum())
        linear = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        for layer, weight in zip(linear, decay, strict=True):
            loss = loss + 0.5 * weight * (layer.weight**2).sum()
        return loss
