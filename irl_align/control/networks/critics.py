"""Twin critics Q_1, Q_2 (Fujimoto et al. 2018; SAC, Haarnoja et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irl_align.control.networks.stacked import Activation, StackedMLP


class TwinCritic(nn.Module):
    """Q_i(s, a), i = 1, 2, in one stacked perceptron; actions in the environment's units."""

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.net = StackedMLP(2, (observation_dim + action_dim, *hidden, 1), activation)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[B, O], [B, A] -> [2, B]."""
        return self.net(torch.cat([observations, actions], dim=-1)).squeeze(-1)

    def least(self, observations: Tensor, actions: Tensor) -> Tensor:
        """min_i Q_i(s, a) [B]."""
        return self(observations, actions).amin(dim=0)

    @torch.no_grad()
    def follow(self, online: TwinCritic, tau: float) -> None:
        """Polyak averaging in place: parameters <- (1 - tau) parameters + tau `online`'s."""
        torch._foreach_lerp_(list(self.parameters()), list(online.parameters()), tau)
