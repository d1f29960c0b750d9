"""The world model as it is usually written in PyTorch: the weights of all members in one tensor a
layer, every row through all of them at once. Imports nothing of the project."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus


class Stacked(nn.Module):
    """K Gaussian networks with learned bounds of their log variances, which they share."""

    def __init__(self, members: int, inputs: int, outputs: int, hidden: list[int]) -> None:
        super().__init__()
        sizes = [inputs, *hidden, 2 * outputs]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for width, following in pairwise(sizes):
            weight = torch.empty(members, width, following)
            nn.init.trunc_normal_(weight, std=1.0 / (2.0 * width**0.5))
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, following)))
        self.high = nn.Parameter(torch.full((outputs,), 0.5))
        self.low = nn.Parameter(torch.full((outputs,), -10.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, in] for all members or [K, B, in] -> mean, log variance [K, B, out]."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            names = "ij,bjk->bik" if x.ndim == 2 else "bij,bjk->bik"
            x = torch.einsum(names, x, weight) + bias
            if layer < len(self.weights) - 1:
                x = silu(x)
        mean, raw = x.chunk(2, dim=-1)
        log_var = self.high - softplus(self.high - raw)
        return mean, self.low + softplus(log_var - self.low)

    def loss(self, x: Tensor, y: Tensor, decay: list[float]) -> Tensor:
        """Of [K, B, in] and [K, B, out], summed over members."""
        mean, log_var = self(x)
        loss = ((mean - y) ** 2 * torch.exp(-log_var)).mean(dim=(1, 2)).sum()
        loss = loss + log_var.mean(dim=(1, 2)).sum()
        loss = loss + 0.01 * (self.high.sum() - self.low.sum())
        for weight, strength in zip(self.weights, decay, strict=True):
            loss = loss + 0.5 * strength * (weight**2).sum()
        return loss
