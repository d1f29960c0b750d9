"""Where batches come from: transitions, and the reward of the moment for each of them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from irl_align.control.buffers import ReplayBuffer


class RewardFunction(Protocol):
    """r(s, a) on a batch: [..., O], [..., A] -> [...]. A `RewardNet` is one."""

    def __call__(self, observations: Tensor, actions: Tensor, /) -> Tensor: ...


class BatchSource(Protocol):
    """Draws what an update needs."""

    def draw(self, batches: int, batch_size: int, /) -> tuple[Tensor, Tensor]:
        """rows [K, B, width] and their rewards [K, B] for K = `batches`, B = `batch_size`."""
        ...


class Relabelled:
    """Replayed transitions with the rewards that `reward` gives them now.

    `reward` is asked once for all K batches, without gradients.
    """

    def __init__(self, buffer: ReplayBuffer, reward: RewardFunction) -> None:
        self.buffer, self.reward = buffer, reward

    def draw(self, batches: int, batch_size: int, /) -> tuple[Tensor, Tensor]:
        rows = self.buffer.draw_packed(batches * batch_size)  # [K B, width]
        drawn = self.buffer.layout.unpack(rows)
        with torch.no_grad():
            rewards = self.reward(drawn.observations, drawn.actions)
        return rows.view(batches, batch_size, -1), rewards.view(batches, batch_size)
