"""What the data do in a state, as the middle of proposals: least squares, done once and frozen.

It is no policy and no part of the method: a bad clone makes the log-sum-exp noisier, not wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from irl_align.control.transitions import Transitions

# A clone that is sure of itself would put all of its proposals on one spot.
_LEAST_STD = 0.05
_BATCH = 256
_LEARNING_RATE = 1e-3


class Clone(nn.Module):
    """The data's mean action in a state, in [-1, 1]^A: [B, O] -> [B, A].

    Attributes:
        std: [A], root mean square of what it leaves unexplained, at least 0.05.
    """

    std: Tensor

    def __init__(self, observation_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise((observation_dim, *hidden)):
            layers += [nn.Linear(a, b), nn.ReLU()]
        last = nn.Linear(hidden[-1] if hidden else observation_dim, action_dim)
        self.net = nn.Sequential(*layers, last)
        self.register_buffer("std", torch.ones(action_dim))

    def forward(self, observations: Tensor) -> Tensor:
        return torch.tanh(self.net(observations))


def fit_clone(
    transitions: Transitions,
    scaled_actions: Tensor,
    hidden: Sequence[int],
    *,
    steps: int,
    seed: int,
) -> Clone:
    """Adam on E[|clone(s) - a|^2], actions [M, A] in [-1, 1]; the same seed, the same clone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clone = Clone(transitions.layout.observation_dim, scaled_actions.shape[1], hidden)
    observations = transitions.batch.observations
    optimiser = torch.optim.Adam(clone.parameters(), lr=_LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randint(len(transitions), (_BATCH,), generator=generator)
        loss = (clone(observations[index]) - scaled_actions[index]).square().sum(dim=-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        rest = [
            (clone(o) - a).square()
            for o, a in zip(observations.split(65_536), scaled_actions.split(65_536), strict=True)
        ]
        clone.std.copy_(torch.cat(rest).mean(dim=0).sqrt().clamp(min=_LEAST_STD))
    return clone.requires_grad_(False)
