"""The environment's own rewards, kept apart from the trajectories they belong to.

They say how good a policy or a demonstrator really is, and nothing that learns may see them. So
loaders and collectors hand them over as an object of their own, and a test holds the rule that
only those two and the evaluation import this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


class TrueRewards:
    """Rewards of N trajectories, one array [T] each."""

    def __init__(self, trajectories: Sequence[ArrayLike]) -> None:
        self._rewards = [np.asarray(rewards, dtype=np.float64) for rewards in trajectories]
        if any(rewards.ndim != 1 for rewards in self._rewards):
            raise ValueError("need one array [T] of rewards per trajectory")

    def __len__(self) -> int:
        return len(self._rewards)

    def of(self, trajectory: int) -> NDArray[np.float64]:
        """Rewards [T] of one trajectory."""
        return self._rewards[trajectory].copy()

    def returns(self, gamma: float = 1.0) -> NDArray[np.float64]:
        """[N]: sum over t of gamma^t r_t; with gamma = 1 the score that papers report."""
        return np.array([rewards @ gamma ** np.arange(len(rewards)) for rewards in self._rewards])

    def select(self, indices: Iterable[int]) -> TrueRewards:
        """The rewards of the trajectories with these numbers, in this order."""
        return TrueRewards([self._rewards[index] for index in indices])


@dataclass(frozen=True, eq=False)
class TransitionRewards:
    """The environment's rewards [M] of M transitions, in the same order.

    `Transitions` hold none. A learner that is given these two objects learns from the true reward,
    one that is given the first cannot.
    """

    values: NDArray[np.float32]

    @classmethod
    def of(cls, rewards: TrueRewards) -> TransitionRewards:
        """Of every step of the trajectories, as `Transitions.of` orders them."""
        steps = [rewards.of(number) for number in range(len(rewards))]
        return cls(np.concatenate(steps).astype(np.float32))

    def __len__(self) -> int:
        return len(self.values)
