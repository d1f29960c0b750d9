"""Trajectories: what demonstrations and rollouts are made of.

They hold no rewards, on purpose: the reward is what is to be learned, so an environment's own
rewards travel in another object (`true_rewards`) that only reports look at.

A trajectory of T steps has T + 1 observations: step t is (s_t, a_t, s_{t+1}). State and action of
one row belong together; a collector that stores s_{t+1} beside a_t would let a reward tell the
agent from the demonstrator by the shift alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One episode, or the part of one that was kept.

    Attributes:
        observations: [T + 1, O], the last one being where step T led to.
        actions: [T, A] in the environment's own units; a discrete action is its index, A = 1.
        terminated: the environment ended it: nothing comes after (no bootstrapping).
        truncated: cut by a time limit or by the end of a file: something would have come after.

    Raises ValueError on shapes that do not fit. The arrays are copied to float32 where needed.
    """

    observations: Floats
    actions: Floats
    terminated: bool
    truncated: bool

    def __post_init__(self) -> None:
        observations = np.ascontiguousarray(self.observations, dtype=np.float32)
        actions = np.ascontiguousarray(self.actions, dtype=np.float32)
        if observations.ndim != 2 or actions.ndim != 2:
            raise ValueError(
                f"need observations [T + 1, O] and actions [T, A], got {observations.shape} "
                f"and {actions.shape}"
            )
        if len(actions) < 1 or len(observations) != len(actions) + 1:
            raise ValueError(
                f"{len(actions)} actions need {len(actions) + 1} observations and at least one "
                f"action, got {len(observations)}"
            )
        object.__setattr__(self, "observations", observations)
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "terminated", bool(self.terminated))
        object.__setattr__(self, "truncated", bool(self.truncated))

    def __len__(self) -> int:
        """T, the number of steps."""
        return len(self.actions)


class Transition(NamedTuple):
    """One step, without its reward; arrays float32."""

    observation: Floats  # [O]
    action: Floats  # [A]
    next_observation: Floats  # [O]
    terminated: bool
    truncated: bool


class Steps(NamedTuple):
    """Single steps of several trajectories, M in all, in the order of the trajectories."""

    observations: Floats  # [M, O]
    actions: Floats  # [M, A]
    next_observations: Floats  # [M, O]
    terminated: NDArray[np.bool_]  # [M]: this step ended its episode for good
    times: NDArray[np.int64]  # [M]: t, counted from 0 in each trajectory
    trajectories: NDArray[np.int64]  # [M]: number of the trajectory
    weights: Floats  # [M]: how many steps this one stands for; they sum to each trajectory's T


class Trajectories:
    """An immutable sequence of at least one trajectory with the same dimensions.

    Raises ValueError when there is none, or when the dimensions differ.
    """

    def __init__(self, trajectories: Iterable[Trajectory]) -> None:
        self._items = tuple(trajectories)
        if not self._items:
            raise ValueError("no trajectory")
        dims = {(t.observations.shape[1], t.actions.shape[1]) for t in self._items}
        if len(dims) > 1:
            raise ValueError(f"trajectories of different (O, A): {sorted(dims)}")
        ((self.observation_dim, self.action_dim),) = dims

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self._items)

    def __getitem__(self, index: int) -> Trajectory:
        return self._items[index]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N]: the number of steps of each trajectory."""
        return np.array([len(t) for t in self], dtype=np.int64)

    @property
    def total_steps(self) -> int:
        return int(self.lengths.sum())

    def select(self, indices: Iterable[int]) -> Trajectories:
        """The trajectories with these numbers, in this order."""
        return Trajectories(self._items[index] for index in indices)

    def mapped_actions(self, order: ArrayLike) -> Trajectories:
        """The same trajectories with `actions[:, order]` (see `environments.ant_model`)."""
        index = np.asarray(order)
        return Trajectories(
            Trajectory(t.observations, t.actions[:, index], t.terminated, t.truncated) for t in self
        )

    def steps(self, every: int = 1, seed: int | None = None) -> Steps:
        """All steps, or every `every`-th one of each trajectory.

        Subsampling starts at step 0, or, with a `seed`, at a random step below `every` in each
        trajectory. A kept step carries the weight of those it stands for (T / kept), so that
        weighted sums over a trajectory keep their size. Raises ValueError when `every` < 1.
        """
        if every < 1:
            raise ValueError(f"every={every}: keep every 1st, 2nd, ... step")
        rng = np.random.default_rng(seed)
        parts = []
        for number, trajectory in enumerate(self):
            length = len(trajectory)
            start = 0 if seed is None else int(rng.integers(min(every, length)))
            times = np.arange(start, length, every)
            ends = np.zeros(len(times), dtype=bool)
            ends[times == length - 1] = trajectory.terminated
            parts.append(
                Steps(
                    trajectory.observations[times],
                    trajectory.actions[times],
                    trajectory.observations[times + 1],
                    ends,
                    times,
                    np.full(len(times), number),
                    np.full(len(times), length / len(times), dtype=np.float32),
                )
            )
        return Steps(*(np.concatenate(column) for column in zip(*parts, strict=True)))
