"""What the data do in a state, as the middle of proposals: least squares, done once and frozen.

It is no policy and no part of the method: a bad clone makes the log-sum-exp noisier, not wrong. But
noise lowers the logarithm on average, so a clone that knew nothing of a few demonstrations among
a million steps of others would make their states look worse than they are, and Q sink there. So
all parts of the data count alike, as they do in an update, however large they are.
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
    *parts: tuple[Transitions, Tensor], hidden: Sequence[int], steps: int, seed: int
) -> Clone:
    """Adam on the mean over parts of E[|clone(s) - a|^2]; the same seed, the same clone.

    Args:
        parts: transitions, and their actions [M, A] in [-1, 1].
    """
    layout = parts[0][0].layout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clone = Clone(layout.observation_dim, parts[0][1].shape[1], hidden)
    optimiser = torch.optim.Adam(clone.parameters(), lr=_LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    pairs = [(transitions.batch.observations, actions) for transitions, actions in parts]
    size = max(1, _BATCH // len(parts))
    for _ in range(steps):
        index = [torch.randint(len(a), (size,), generator=generator) for _, a in pairs]
        states = torch.cat([o[i] for (o, _), i in zip(pairs, index, strict=True)])
        wanted = torch.cat([a[i] for (_, a), i in zip(pairs, index, strict=True)])
        loss = (clone(states) - wanted).square().sum(dim=-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    unexplained = torch.stack([_mean_square(clone, *pair) for pair in pairs]).mean(dim=0)
    clone.std.copy_(unexplained.sqrt().clamp(min=_LEAST_STD))
    return clone.requires_grad_(False)


@torch.no_grad()
def _mean_square(clone: Clone, observations: Tensor, actions: Tensor) -> Tensor:
    """Of what it leaves unexplained [A]."""
    together = zip(observations.split(65_536), actions.split(65_536), strict=True)
    return torch.cat([(clone(o) - a).square() for o, a in together]).mean(dim=0)
