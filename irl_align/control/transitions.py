"""Transitions that are simply there: what offline learners have instead of an environment.

No rewards, on purpose: whoever holds this object cannot learn from a dataset's own ones. Order and
episodes are given up; a step that was cut by a time limit is a step like any other. Anything with a
layout and packed rows becomes one: `Transitions(it.layout, it.rows)`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from irl_align.control.buffers import Batch, Layout
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories
from irl_align.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Transitions:
    """M transitions (s, a, s', d).

    Attributes:
        layout: dimensions.
        rows: [M, layout.width], packed as the replay packs them.
    """

    layout: Layout
    rows: Tensor

    @classmethod
    def of(cls, trajectories: Trajectories) -> Transitions:
        """Every step of `trajectories`."""
        layout = Layout(trajectories.observation_dim, trajectories.action_dim)
        return cls(layout, layout.pack(trajectories))

    @classmethod
    def from_arrays(
        cls,
        observations: ArrayLike,
        actions: ArrayLike,
        next_observations: ArrayLike,
        terminated: ArrayLike,
    ) -> Transitions:
        """From [M, O], [M, A], [M, O] and [M]; a discrete action is its index, A = 1.

        Raises UserError on shapes that do not fit, none at all, and numbers that are not finite,
        naming column and row.
        """
        columns = {
            "observations": np.asarray(observations, dtype=np.float32),
            "actions": np.asarray(actions, dtype=np.float32),
            "next_observations": np.asarray(next_observations, dtype=np.float32),
            "terminated": np.asarray(terminated, dtype=np.float32)[..., None],
        }
        shapes = {name: column.shape for name, column in columns.items()}
        first = shapes["observations"]
        if any(len(s) != 2 or s[0] != first[0] or not s[0] for s in shapes.values()) or (
            shapes["next_observations"] != first or shapes["terminated"][1] != 1
        ):
            raise UserError(
                "transitions need observations [M, O], actions [M, A], next_observations [M, O] "
                f"and terminated [M], M >= 1; got {[list(s) for s in shapes.values()]} (terminated "
                "with one more axis)"
            )
        for name, column in columns.items():
            bad = np.argwhere(~np.isfinite(column))
            if len(bad):
                row, place = bad[0]
                raise UserError(
                    f"transitions: {name} is {column[row, place]} in row {row}; every number must "
                    "be finite"
                )
        layout = Layout(first[1], shapes["actions"][1])
        return cls(layout, torch.from_numpy(np.concatenate(list(columns.values()), axis=1)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def batch(self) -> Batch:
        """All of them, as views of the rows."""
        return self.layout.unpack(self.rows)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows, uniformly with replacement [count, width]."""
        return self.rows.index_select(0, torch.randint(len(self), (count,), generator=generator))

    def head(self, count: int) -> Transitions:
        """At most `count` of them, spread evenly over all."""
        if count >= len(self):
            return self
        index = torch.linspace(0, len(self) - 1, count).round().long()
        return Transitions(self.layout, self.rows.index_select(0, index))

    def with_one_hot_actions(self, spaces: Spaces) -> Transitions:
        """Indices of actions become unit vectors [M, n]; actions of a box stay as they are.

        Raises UserError on an action that `spaces` does not have.
        """
        if spaces.discrete_actions is None:
            return self
        old = self.batch
        index = old.actions.long().squeeze(-1)
        if (index.float() != old.actions.squeeze(-1)).any() or not (
            int(index.min()) >= 0 and int(index.max()) < spaces.discrete_actions
        ):
            raise UserError(
                f"actions from {float(old.actions.min()):g} to {float(old.actions.max()):g}, but "
                f"{spaces.environment} has the actions 0 to {spaces.discrete_actions - 1}"
            )
        units = torch.nn.functional.one_hot(index, spaces.discrete_actions).float()
        layout = Layout(self.layout.observation_dim, spaces.discrete_actions)
        rows = [old.observations, units, old.next_observations, old.terminated[:, None]]
        return Transitions(layout, torch.cat(rows, dim=1))

    def sha256(self) -> str:
        """Of the rows' bytes, for a run's manifest."""
        return hashlib.sha256(self.rows.contiguous().numpy().tobytes()).hexdigest()


def check_fits(name: str, transitions: Transitions, spaces: Spaces) -> None:
    """UserError unless `transitions` have the dimensions of `spaces`, naming both."""
    wanted = Layout(spaces.observation_dim, spaces.action_dim)
    if transitions.layout != wanted:
        raise UserError(
            f"{name}: transitions of {transitions.layout.observation_dim} observation and "
            f"{transitions.layout.action_dim} action numbers, but {spaces.environment} has "
            f"{wanted.observation_dim} and {wanted.action_dim}"
        )
