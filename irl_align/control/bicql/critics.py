"""Q of one kind for boxes of actions and another for indices, behind the same two questions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irl_align.control.networks.stacked import Activation, StackedMLP
from irl_align.control.spaces import Spaces


class BoxCritic(nn.Module):
    """Q_i(s, a), i = 1 .. K, of actions in the environment's units."""

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        *,
        members: int = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.net = StackedMLP(members, (observation_dim + action_dim, *hidden, 1), activation)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[B, O], [B, A] -> [K, B]."""
        return self.net(torch.cat([observations, actions], dim=-1)).squeeze(-1)

    def spread(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[B, O], [B, M, A] -> [K, B, M]."""
        size, count, _ = actions.shape
        states = observations[:, None].expand(-1, count, -1)
        pairs = torch.cat([states, actions], dim=-1).reshape(size * count, -1)
        return self.net(pairs).view(-1, size, count)


class IndexedCritic(nn.Module):
    """Q_i(s, a) of n actions that are indices, handed over as unit vectors."""

    def __init__(
        self,
        observation_dim: int,
        actions: int,
        hidden: Sequence[int],
        *,
        members: int = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.net = StackedMLP(members, (observation_dim, *hidden, actions), activation)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[B, O], [B, n] -> [K, B]."""
        return (self.net(observations) * actions).sum(dim=-1)

    def spread(self, observations: Tensor, actions: Tensor) -> Tensor:
        """All of them: [B, O] -> [K, B, n]; `actions` is not looked at."""
        return self.net(observations)


Critic = BoxCritic | IndexedCritic


def make_critic(
    spaces: Spaces, hidden: Sequence[int], *, members: int, activation: Activation
) -> Critic:
    """The kind that the actions of `spaces` ask for."""
    if spaces.discrete_actions is not None:
        return IndexedCritic(
            spaces.observation_dim,
            spaces.discrete_actions,
            hidden,
            members=members,
            activation=activation,
        )
    return BoxCritic(
        spaces.observation_dim, spaces.action_dim, hidden, members=members, activation=activation
    )
