"""Several multilayer perceptrons of one shape as batched matrix products.

Two critics (or seven world models) whose weights lie in one tensor [K, in, out] cost one `baddbmm`
a layer instead of K matrix products, and an optimiser sees one tensor instead of K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "tanh", "silu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": nn.functional.silu,
}


class StackedLinear(nn.Module):
    """K linear layers: [K, B, in] -> [K, B, out], each as `nn.Linear` initialises it."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class StackedMLP(nn.Module):
    """K perceptrons. `sizes` = (in, hidden ..., out); the activation follows all but the last."""

    def __init__(self, members: int, sizes: Sequence[int], activation: Activation = "relu") -> None:
        super().__init__()
        if len(sizes) < 2 or members < 1:
            raise ValueError(f"need members >= 1 and (in, ..., out), got {members} and {sizes}")
        self.members = members
        self.layers = nn.ModuleList(StackedLinear(members, a, b) for a, b in pairwise(sizes))
        self._activate = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[B, in], the same for all members, or [K, B, in] -> [K, B, out]."""
        if x.ndim == 2:
            x = x.expand(self.members, -1, -1)
        *hidden, last = self.layers
        for layer in hidden:
            x = self._activate(layer(x))
        return last(x)
