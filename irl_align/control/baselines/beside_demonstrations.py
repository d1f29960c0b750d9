"""SAC on batches that are half demonstrations, half replay: what SQIL and IQ-Learn share.

There is no reward net. The column of rewards says where a transition comes from: 1 for the
demonstrator's, 0 for the agent's. To SQIL that is the reward, to IQ-Learn a mark.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irl_align.control.buffers import ReplayBuffer


class HalfDemonstrations:
    """A batch source: the first B // 2 rows of a batch are demonstrations, the rest is replay.

    Args:
        demonstrations: rows [M, width].
        seed: of the draws from the demonstrations. They have a generator of their own, made anew
            every round, so that nothing of it need be saved.
    """

    def __init__(self, demonstrations: Tensor, replay: ReplayBuffer, *, seed: int) -> None:
        self.demonstrations, self.replay = demonstrations, replay
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, batches: int, batch_size: int, /) -> tuple[Tensor, Tensor]:
        """rows [K, B, width]; 1 where demonstrated, else 0 [K, B]."""
        half = batch_size // 2
        shape = (batches * half,)
        index = torch.randint(len(self.demonstrations), shape, generator=self._generator)
        expert = self.demonstrations.index_select(0, index).view(batches, half, -1)
        agent = self.replay.draw_packed(batches * (batch_size - half))
        rows = torch.cat([expert, agent.view(batches, batch_size - half, -1)], dim=1)
        demonstrated = torch.zeros(batches, batch_size)
        demonstrated[:, :half] = 1.0
        return rows, demonstrated
