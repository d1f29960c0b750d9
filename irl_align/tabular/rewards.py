"""Reward families r(s, a; theta): theta is a vector, the family knows what it means.

A family is fixed and theta travels, so the trainer's artefact is a plain array. Features over
states alone make a state-only reward (thesis Lemma 3): its gradient never sees an action.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array, eye_array, issparse

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, check_finite, check_shape
from irl_align.tabular.mdp import TabularMDP

__all__ = ["LinearReward", "RewardFamily", "one_hot"]


class RewardFamily(Protocol):
    """What a learner may ask of a reward: values, and gradients as vector-Jacobian products."""

    @property
    def size(self) -> int:
        """d, the length of theta."""
        ...

    def initial(self, seed: int) -> Array:
        """A theta [d] to start from."""
        ...

    def values(self, theta: Array) -> Array:
        """r(s, a; theta) for all pairs: [S, A]."""
        ...

    def gradient(self, theta: Array, weights: Array) -> Array:
        """sum_{s,a} w(s,a) grad_theta r(s, a; theta): [d] from weights [S, A].

        With w = d_E - d_pi it is the likelihood gradient (Lemma 1).
        """
        ...


class LinearReward:
    """r(s, a; theta) = phi(s, a)^T theta, or phi(s)^T theta.

    Args:
        mdp: gives S and A.
        features: an array [S, A, d], or [S, d] for a state-only reward; or a scipy sparse matrix
            of shape [S*A, d] (row s*A + a) or [S, d].

    Raises UserError when the features fit neither shape or are not finite.
    """

    def __init__(self, mdp: TabularMDP, features: Any) -> None:
        states, actions = mdp.shape
        if issparse(features):
            matrix = csr_array(features, dtype=np.float64)
            check_finite("the features", matrix.data)
        else:
            table = check_finite("the features", np.asarray(features, dtype=np.float64))
            if table.ndim == 3 and table.shape[:2] == mdp.shape:
                table = table.reshape(states * actions, -1)
            elif table.ndim != 2 or len(table) != states:
                raise UserError(
                    f"features have shape [S, A, d] or [S, d] with S={states}, A={actions}, got "
                    f"{list(table.shape)}"
                )
            matrix = np.ascontiguousarray(table)
        if matrix.shape[0] not in (states, states * actions) or matrix.shape[1] < 1:
            raise UserError(
                f"sparse features have shape [S*A, d] or [S, d] with S={states}, A={actions}, got "
                f"{list(matrix.shape)}"
            )
        self.matrix: Any = matrix  # [S*A, d] or [S, d]
        self.state_only = matrix.shape[0] == states
        self._shape = mdp.shape

    @property
    def size(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def lipschitz(self) -> float:
        """L_r = max |phi| (Euclidean), the bound on |grad r| in the paper's constants."""
        squares = self.matrix.multiply(self.matrix) if issparse(self.matrix) else self.matrix**2
        return float(np.sqrt(np.asarray(squares.sum(axis=1)).max()))

    def initial(self, seed: int = 0) -> Array:
        """Zeros: the uniform policy is optimal."""
        return np.zeros(self.size)

    def values(self, theta: Array) -> Array:
        theta = check_shape("theta", theta, (self.size,))
        rewards = self.matrix @ theta
        if self.state_only:
            return np.broadcast_to(rewards[:, None], self._shape)
        return np.asarray(rewards.reshape(self._shape))

    def gradient(self, theta: Array, weights: Array) -> Array:
        return self.expectation(weights)

    def expectation(self, weights: Array) -> Array:
        """sum_{s,a} w(s,a) phi(s,a): [d]; with an occupancy the discounted feature expectation."""
        flat = weights.sum(1) if self.state_only else weights.reshape(-1)
        return np.asarray(flat @ self.matrix)


def one_hot(mdp: TabularMDP, *, state_only: bool = False) -> LinearReward:
    """One parameter for every pair (or every state): any reward table is in this family."""
    size = mdp.states if state_only else mdp.states * mdp.actions
    return LinearReward(mdp, eye_array(size, format="csr"))
