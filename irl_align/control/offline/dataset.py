"""A data set of transitions as offline learners take it: without a reward.

It is read and checked as demonstrations are (`demonstrations.loading`): D4RL's HDF5 with terminals
and timeouts, Minari, npz. Whatever its file says of rewards stays in the loader's report.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irl_align.control.buffers import Batch, Layout
from irl_align.control.demonstrations.loading import Demonstrations
from irl_align.control.demonstrations.report import DemonstrationReport


@dataclass(frozen=True)
class OfflineDataset:
    """N transitions of any policies.

    Attributes:
        rows: [N, layout.width], packed, in the order of the file.
        first: [n, O], the observation that each trajectory begins with.
    """

    rows: Tensor
    layout: Layout
    first: Tensor
    report: DemonstrationReport

    @classmethod
    def of(cls, loaded: Demonstrations) -> OfflineDataset:
        """The steps of all trajectories; their rewards are left behind."""
        trajectories = loaded.trajectories
        layout = Layout(trajectories.observation_dim, trajectories.action_dim)
        return cls(
            layout.pack(trajectories),
            layout,
            torch.stack([torch.from_numpy(t.observations[0]) for t in trajectories]),
            loaded.report,
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def transitions(self) -> Batch:
        """Views of all rows."""
        return self.layout.unpack(self.rows)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows, uniformly with replacement."""
        return self.rows[torch.randint(len(self), (count,), generator=generator)]
