"""A replay buffer of transitions, without rewards.

The reward changes while the policy learns, so it is no property of a transition: it is computed by
the current reward net when a batch is drawn. All columns live side by side in one tensor
[capacity, 2 O + A + 1], because one `index_select` on packed rows is several times faster than one
for each column; a batch is views of the drawn rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from irl_align.control.absorbing import absorbing_state
from irl_align.control.trajectories import Floats, Trajectories, Transition
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open


class Batch(NamedTuple):
    """Transitions as a learner takes them, float32."""

    observations: Tensor  # [B, O]
    actions: Tensor  # [B, A]
    next_observations: Tensor  # [B, O]
    terminated: Tensor  # [B], 1 where nothing comes after; a time limit is 0


class Layout(NamedTuple):
    """Where the columns stand in a packed row."""

    observation_dim: int
    action_dim: int

    @property
    def width(self) -> int:
        return 2 * self.observation_dim + self.action_dim + 1

    def unpack(self, rows: Tensor) -> Batch:
        """Views of packed rows [..., width]."""
        o, a = self.observation_dim, self.action_dim
        return Batch(
            rows[..., :o], rows[..., o : o + a], rows[..., o + a : 2 * o + a], rows[..., -1]
        )

    def pack(self, trajectories: Trajectories) -> Tensor:
        """All steps of `trajectories` as rows [M, width], in order."""
        steps = trajectories.steps()
        return torch.from_numpy(
            np.concatenate(
                [
                    steps.observations,
                    steps.actions,
                    steps.next_observations,
                    steps.terminated[:, None].astype(np.float32),
                ],
                axis=1,
            )
        )


class ReplayBuffer:
    """The last `capacity` transitions, drawn uniformly with replacement.

    Args:
        absorbing_transitions: with 1 or more, the last number of an observation is the absorbing
            flag. A terminating step is then stored as leading to the absorbing state, so many
            transitions from that state to itself follow, and nothing counts as terminated. (10 in
            DAC; see `absorbing`.)
        seed: of the buffer's own generator.

    The rows are reserved at once, but take memory only as they are filled (on a CPU).
    """

    def __init__(
        self,
        capacity: int,
        observation_dim: int,
        action_dim: int,
        *,
        absorbing_transitions: int = 0,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if capacity < 1 or absorbing_transitions < 0:
            raise ValueError(
                f"need capacity >= 1 and absorbing_transitions >= 0, got {capacity} and "
                f"{absorbing_transitions}"
            )
        self.capacity = capacity
        self.layout = Layout(observation_dim, action_dim)
        self.absorbing_transitions = absorbing_transitions
        self._rows = torch.empty(capacity, self.layout.width, device=device)
        self._generator = torch.Generator(device).manual_seed(seed)
        self._row = np.empty(self.layout.width, dtype=np.float32)
        # The same memory: writing one row through numpy costs a tenth of torch's `copy_`.
        self._view: Floats | None = self._rows.numpy() if self._rows.device.type == "cpu" else None
        self._pointer = 0
        self._size = 0

    @classmethod
    def of(cls, trajectories: Trajectories, absorbing_transitions: int = 0) -> ReplayBuffer:
        """All steps of `trajectories`, as a replay would keep them: with the same transitions
        behind an early end, so that they do not tell demonstrations from the agent (DAC)."""
        ends = sum(trajectory.terminated for trajectory in trajectories)
        buffer = cls(
            trajectories.total_steps + ends * absorbing_transitions,
            trajectories.observation_dim,
            trajectories.action_dim,
            absorbing_transitions=absorbing_transitions,
        )
        buffer.extend(trajectories)
        return buffer

    def __len__(self) -> int:
        return self._size

    # Filling

    def add(self, transition: Transition) -> None:
        """One step, as `Collector.collect` hands it to `on_step`."""
        o, a = self.layout
        row = self._row
        row[:o] = transition.observation
        row[o : o + a] = transition.action
        row[o + a : -1] = transition.next_observation
        row[-1] = transition.terminated
        if transition.terminated and self.absorbing_transitions:
            self._add_absorbing(row)
        else:
            self._put(row)

    def _add_absorbing(self, row: Floats) -> None:
        o, a = self.layout
        absorbing = absorbing_state(o)
        row[o + a : -1] = absorbing
        row[-1] = 0.0
        self._put(row)
        row[:o] = absorbing
        row[o : o + a] = 0.0
        for _ in range(self.absorbing_transitions):
            self._put(row)

    def _put(self, row: Floats) -> None:
        if self._view is not None:
            self._view[self._pointer] = row
        else:
            self._rows[self._pointer].copy_(torch.from_numpy(row))
        self._pointer = (self._pointer + 1) % self.capacity
        self._size = min(self._size + 1, self.capacity)

    def extend(self, trajectories: Trajectories) -> None:
        """Every step of `trajectories`, as if added one by one."""
        dims = trajectories.observation_dim, trajectories.action_dim
        if dims != tuple(self.layout):
            raise ValueError(
                f"trajectories of (O, A) = {dims} do not fit a buffer of {tuple(self.layout)}"
            )
        if self.absorbing_transitions:
            for t in trajectories:
                for i in range(len(t)):
                    ends = t.terminated and i == len(t) - 1
                    self.add(
                        Transition(
                            t.observations[i], t.actions[i], t.observations[i + 1], ends, False
                        )
                    )
            return
        self.extend_packed(self.layout.pack(trajectories))

    def extend_packed(self, rows: Tensor) -> None:
        """Packed rows [M, width], such as a world model's; only the last `capacity` can stay."""
        if rows.ndim != 2 or rows.shape[1] != self.layout.width:
            raise ValueError(f"need rows [M, {self.layout.width}], got {tuple(rows.shape)}")
        skipped = max(0, len(rows) - self.capacity)
        kept = rows[skipped:]
        start = (self._pointer + skipped) % self.capacity
        first = min(len(kept), self.capacity - start)
        self._rows[start : start + first] = kept[:first]
        self._rows[: len(kept) - first] = kept[first:]
        self._pointer = (start + len(kept)) % self.capacity
        self._size = min(self._size + len(rows), self.capacity)

    # Drawing

    def draw(self, batch_size: int) -> Batch:
        """`batch_size` transitions, uniformly with replacement."""
        return self.layout.unpack(self.draw_packed(batch_size))

    def draw_packed(self, batch_size: int) -> Tensor:
        """The same as rows [batch_size, width], for a compiled step (see `Layout.unpack`)."""
        return self.rows(self.draw_index(batch_size))

    def draw_index(self, batch_size: int) -> Tensor:
        """Which rows `draw` takes [batch_size], for a source that keeps a column of its own."""
        if not self._size:
            raise ValueError("the buffer is empty: collect an episode first")
        return torch.randint(
            self._size, (batch_size,), generator=self._generator, device=self._rows.device
        )

    def rows(self, index: Tensor) -> Tensor:
        """Packed rows [M, width] at `index` [M]."""
        return self._rows.index_select(0, index)

    def all_rows(self) -> Tensor:
        """Every row, oldest first [M, width]."""
        return self.rows(self.latest_index(len(self)))

    def latest_index(self, count: int) -> Tensor:
        """Where the last `count` rows stand (fewer when there are fewer), oldest first."""
        count = min(count, self._size)
        index = torch.arange(self._pointer - count, self._pointer, device=self._rows.device)
        return index % self.capacity

    def recent(self, count: int) -> Batch:
        """The last `count` transitions (fewer when there are fewer), oldest first."""
        return self.layout.unpack(self.rows(self.latest_index(count)))

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next draw and the next add depend on; tensors and plain numbers."""
        return {
            "layout": tuple(self.layout),
            "capacity": self.capacity,
            "absorbing_transitions": self.absorbing_transitions,
            "pointer": self._pointer,
            # A copy: a view would change under later adds, and be saved with the empty rows.
            "rows": self._rows[: self._size].cpu().clone(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken.

        Raises ValueError when it is of another kind of buffer, naming what differs.
        """
        mine = {
            "layout": tuple(self.layout),
            "capacity": self.capacity,
            "absorbing_transitions": self.absorbing_transitions,
        }
        for name, value in mine.items():
            if state[name] != value:
                raise ValueError(f"the saved buffer has {name} {state[name]}, this one {value}")
        rows = state["rows"]
        self._rows[: len(rows)] = rows
        self._size, self._pointer = len(rows), state["pointer"]
        self._generator.set_state(state["generator"])

    def save(self, path: Path) -> None:
        """Write `path`; a crash leaves the old file or the new one."""
        with atomic_open(path) as file:
            torch.save(self.state_dict(), file)

    def load(self, path: Path) -> None:
        """Restore what `save` wrote. Raises UserError when the file is missing, damaged or of
        another kind of buffer."""
        try:
            self.load_state_dict(torch.load(path, weights_only=True))
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file; the replay buffer is gone") from error
        except (RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
            raise UserError(f"{path}: not a buffer that can be taken up: {error}") from error
