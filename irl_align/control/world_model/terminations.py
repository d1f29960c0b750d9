"""When a predicted state is one that nothing comes after.

The conditions of gymnasium's robots are known and are functions of the state that a step led to;
they are the same in all versions. Elsewhere a classifier learns them from the data set's own ends.

A condition is asked of [B, O] and answers [B], bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from irl_align.control.spaces import Spaces

Condition = Callable[[Tensor], Tensor]

_HIDDEN = 64
_UPDATES, _BATCH, _LEARNING_RATE = 1_000, 256, 3e-3


def _never(states: Tensor) -> Tensor:
    return torch.zeros(len(states), dtype=torch.bool, device=states.device)


def _hopper(states: Tensor) -> Tensor:
    # "Not healthy", not "unhealthy": a comparison with NaN is false, and NaN must end.
    healthy = (states[:, 1:].abs() < 100).all(dim=1) & (states[:, 0] > 0.7)
    return ~(healthy & (states[:, 1].abs() < 0.2))


def _walker2d(states: Tensor) -> Tensor:
    height, angle = states[:, 0], states[:, 1]
    return ~((height > 0.8) & (height < 2.0) & (angle.abs() < 1.0))


def _ant(states: Tensor) -> Tensor:
    height = states[:, 0]
    return ~(torch.isfinite(states).all(dim=1) & (height >= 0.2) & (height <= 1.0))


def _humanoid(states: Tensor) -> Tensor:
    return ~((states[:, 0] > 1.0) & (states[:, 0] < 2.0))


def _inverted_pendulum(states: Tensor) -> Tensor:
    return ~(torch.isfinite(states).all(dim=1) & (states[:, 1].abs() <= 0.2))


# By the gymnasium id without its version.
KNOWN: dict[str, Condition] = {
    "Hopper": _hopper,
    "Walker2d": _walker2d,
    "Ant": _ant,
    "Humanoid": _humanoid,
    "InvertedPendulum": _inverted_pendulum,
    **dict.fromkeys(("HalfCheetah", "Swimmer", "Pendulum"), _never),
    **dict.fromkeys(("irl_align/CustomAnt", "irl_align/DisabledAnt"), _never),
}


def known_condition(spaces: Spaces) -> Condition | None:
    """That of the environment; None when it is not known."""
    return KNOWN.get(spaces.environment.rpartition("-v")[0])


class LearnedTermination(nn.Module):
    """p(end | state) above one half, from a small perceptron on standardised states."""

    mean: Tensor
    std: Tensor

    def __init__(self, observation_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(observation_dim))
        self.register_buffer("std", torch.ones(observation_dim))
        self.hidden = nn.Sequential(
            nn.Linear(observation_dim, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU()
        )
        self.last = nn.Linear(_HIDDEN, 1)

    def logits(self, states: Tensor) -> Tensor:
        """[B, O] -> [B]."""
        inputs = ((states - self.mean) / self.std).clamp(-10, 10)
        return self.last(self.hidden(inputs)).squeeze(-1)

    @torch.no_grad()
    def forward(self, states: Tensor) -> Tensor:
        return self.logits(states) > 0


class Never(nn.Module):
    """Nothing ends: half-cheetahs, fixed horizons, data without a single end."""

    def forward(self, states: Tensor) -> Tensor:
        return _never(states)


class Known(nn.Module):
    """A condition of `KNOWN`, by name, so that a saved model can find it again."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self._condition = name, KNOWN[name]

    def forward(self, states: Tensor) -> Tensor:
        return self._condition(states)


def choose_termination(
    wanted: str, spaces: Spaces, states: Tensor, ended: Tensor, *, fixed_horizon: bool, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """The condition for an environment, and what there is to say about it.

    Args:
        wanted: auto, learned or never.
        states, ended: [N, O] and [N], what the data set's steps led to and whether it was an end.
        fixed_horizon: the environment goes on whatever happens.
    """
    name = spaces.environment.rpartition("-v")[0]
    if wanted == "never" or (fixed_horizon and wanted == "auto"):
        return Never(), {"kind": "never"}
    if wanted == "auto" and name in KNOWN:
        found = Known(name)
        wrong = int((found(states) != ended.bool()).sum())
        return found, {"kind": "known", "name": name, "disagreements": wrong}
    if not ended.any():
        return Never(), {"kind": "never", "why": "no end in the data"}
    return _learn(states, ended, seed)


def _learn(states: Tensor, ended: Tensor, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Half of each batch are ends, which are rare; the loss weighs them back, so that p stays p."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LearnedTermination(states.shape[1])
    generator = torch.Generator().manual_seed(seed)
    spread, centre = torch.std_mean(states.double(), dim=0, correction=0)
    net.mean.copy_(centre)
    net.std.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))
    ends, others = (ended > 0).nonzero()[:, 0], (ended == 0).nonzero()[:, 0]
    share = len(ends) / len(states)
    wanted = torch.cat([torch.ones(_BATCH // 2), torch.zeros(_BATCH // 2)])
    optimiser = torch.optim.Adam(net.parameters(), lr=_LEARNING_RATE)
    for _ in range(_UPDATES if len(others) else 0):
        picked = [
            index[torch.randint(len(index), (_BATCH // 2,), generator=generator)]
            for index in (ends, others)
        ]
        logits = net.logits(states[torch.cat(picked)])
        losses = binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        one, other = losses.chunk(2)
        loss = share * one.mean() + (1 - share) * other.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    if not len(others):  # one-step episodes
        with torch.no_grad():
            net.last.bias.fill_(10.0)
    net.eval().requires_grad_(False)
    with torch.no_grad():
        logits = net.logits(states)
    said = logits > 0
    return net, {
        "kind": "learned",
        "ends": len(ends),
        "missed": int((~said & (ended > 0)).sum()),
        "false_alarms": int((said & (ended == 0)).sum()),
        "cross_entropy": float((softplus(logits) - ended * logits).mean()),
    }
