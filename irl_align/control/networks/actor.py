"""The squashed-Gaussian policy of SAC (Haarnoja et al. 2018, appendix C).

    u ~ N(mean(s), std(s)),   a = centre + half_width * tanh(u)

Densities are those of tanh(u) in (-1, 1)^A, not of `a`: they differ by a constant, and this way
the temperature alpha and the target entropy -A mean the same whatever the units of an action are.

Noise comes from outside (a tensor eps ~ N(0, 1) [B, A]), so that a compiled step holds no random
numbers and equals the eager one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from irl_align.control.networks.stacked import ACTIVATIONS, Activation
from irl_align.control.spaces import Spaces

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
# tanh saturates in float32: a demonstrated action at the bound would have u = infinity.
_EDGE = 1.0 - 1e-6


class Sample(NamedTuple):
    actions: Tensor  # [B, A] in the environment's units, differentiable in the parameters
    log_probs: Tensor  # [B]


class SquashedGaussianActor(nn.Module):
    """pi(a|s) with one perceptron whose last layer gives mean and log standard deviation.

    Raises ValueError when the box of actions has no bounds, or actions are indices.
    """

    half_width: Tensor
    centre: Tensor

    def __init__(
        self,
        spaces: Spaces,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        low = torch.from_numpy(spaces.action_low.copy())
        high = torch.from_numpy(spaces.action_high.copy())
        if spaces.discrete_actions is not None or not torch.isfinite(low + high).all():
            raise ValueError(f"{spaces.environment}: actions must be a box with bounds")
        self.register_buffer("half_width", (high - low) / 2)
        self.register_buffer("centre", (high + low) / 2)
        self.activation = activation
        sizes = (spaces.observation_dim, *hidden, 2 * spaces.action_dim)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self._activate = ACTIVATIONS[activation]

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """[B, O] -> mean and log standard deviation of u, each [B, A]."""
        x = observations
        *hidden, last = self.layers
        for layer in hidden:
            x = self._activate(layer(x))
        mean, log_std = last(x).chunk(2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def sample(self, observations: Tensor, noise: Tensor) -> Sample:
        """Reparameterised: u = mean + std * noise."""
        mean, log_std = self(observations)
        u = mean + log_std.exp() * noise
        return Sample(self._scaled(torch.tanh(u)), _log_prob(u, noise, log_std))

    def mode(self, observations: Tensor) -> Tensor:
        """The action without noise, centre + half_width * tanh(mean) [B, A]."""
        mean, _ = self(observations)
        return self._scaled(torch.tanh(mean))

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[B]: log density of given actions, for cloning; clipped just inside of the bounds."""
        mean, log_std = self(observations)
        u = torch.atanh(((actions - self.centre) / self.half_width).clamp(-_EDGE, _EDGE))
        return _log_prob(u, (u - mean) * (-log_std).exp(), log_std)

    def _scaled(self, squashed: Tensor) -> Tensor:
        return self.centre + self.half_width * squashed


def _log_prob(u: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    """log N(u) - log |d tanh(u) / du|, with the log-determinant 2 (log 2 - u - softplus(-2u)).

    That form stays exact where 1 - tanh(u)^2 underflows.
    """
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    squash = 2 * (math.log(2) - u - softplus(-2 * u))
    return (gaussian - squash).sum(dim=-1)
