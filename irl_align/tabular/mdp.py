"""A tabular MDP without a reward: dynamics, where episodes start, and the discount."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from irl_align.tabular.arrays import Array, check_discount, check_distribution, check_shape
from irl_align.tabular.kernels import DenseKernel, Kernel, SparseKernel

__all__ = ["TabularMDP", "make_mdp"]


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """Kernel P(s'|s,a), initial distribution eta [S] and discount gamma in (0, 1).

    Rewards stay outside, [S, A]: inverse RL has many of them for one MDP. Raises UserError on an
    ``initial`` that is no distribution over the kernel's states, and on gamma outside (0, 1).
    """

    kernel: Kernel
    initial: Array  # [S]
    gamma: float

    def __post_init__(self) -> None:
        initial = check_shape("the initial distribution", self.initial, (self.states,))
        check_distribution("the initial distribution", initial, initial.sum(keepdims=True))
        object.__setattr__(self, "initial", initial)
        object.__setattr__(self, "gamma", check_discount(self.gamma))

    @property
    def states(self) -> int:
        return self.kernel.states

    @property
    def actions(self) -> int:
        return self.kernel.actions

    @property
    def shape(self) -> tuple[int, int]:
        """(S, A)."""
        return self.kernel.states, self.kernel.actions

    @property
    def mass(self) -> float:
        """What a discounted occupancy sums to: sum_t gamma^t = 1 / (1 - gamma)."""
        return 1 / (1 - self.gamma)

    def check_reward(self, reward: Any) -> Array:
        """``reward`` as float64 [S, A]; [S] is read as state-only. UserError when neither fits."""
        array = np.asarray(reward, dtype=np.float64)
        if array.shape == (self.states,):
            return np.broadcast_to(array[:, None], self.shape)
        return check_shape("the reward", array, self.shape)


def make_mdp(kernel: Any, gamma: float, initial: Any = None) -> TabularMDP:
    """An MDP from a :class:`Kernel`, an array [S, A, S] or a scipy sparse matrix [S*A, S].

    ``initial`` [S] is uniform by default. Raises UserError as the kernels and the MDP do.
    """
    if issparse(kernel):
        kernel = SparseKernel(kernel)
    elif not hasattr(kernel, "expect"):
        kernel = DenseKernel(kernel)
    if initial is None:
        initial = np.full(kernel.states, 1 / kernel.states)
    return TabularMDP(kernel, initial, gamma)
