"""A data set of transitions as learners in a world model take it: without a reward.

It is read and checked as demonstrations are (`demonstrations.loading`): D4RL's HDF5 with terminals
and timeouts, Minari, npz. Whatever its file says of rewards stays in the loader's report.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irl_align.control.demonstrations.loading import Demonstrations
from irl_align.control.demonstrations.report import DemonstrationReport
from irl_align.control.transitions import Transitions


@dataclass(frozen=True, eq=False)
class OfflineDataset(Transitions):
    """Transitions in the order of their file, and where its trajectories begin.

    Attributes:
        first: [n, O], the observation that each trajectory begins with.
    """

    first: Tensor
    report: DemonstrationReport

    @classmethod
    def loaded(cls, found: Demonstrations) -> OfflineDataset:
        """The steps of all trajectories; their rewards are left behind."""
        plain = Transitions.of(found.trajectories)
        first = [torch.from_numpy(t.observations[0]) for t in found.trajectories]
        return cls(plain.layout, plain.rows, torch.stack(first), found.report)
