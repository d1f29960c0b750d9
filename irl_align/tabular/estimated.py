"""A model of the dynamics from counted transitions, and how little each pair of it is known.

    P_hat(s'|s,a) = N(s,a,s') / N(s,a),      U(s,a) = -coef / sqrt(N(s,a) + 1)

The penalty U <= 0 is what the reward of the conservative MDP gets added (thesis Alg. 3): by
Hoeffding's and Weissman's inequalities the error of P_hat(.|s,a) falls with that root. A pair that
was never tried stays where it is: a guess that keeps the table sparse and has the whole of `coef`
against it.

Left out: smoothing by a prior. What is unknown is to be avoided here, not filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, Ints, check_finite, check_shape
from irl_align.tabular.kernels import DenseKernel, Kernel, SparseKernel
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.rollouts import Rollouts

__all__ = ["CountedTransitions", "EstimatedModel", "draw_transitions", "estimate_model"]

# Entries up to which the model is a dense table.
_DENSE = 10**6


@dataclass(frozen=True, eq=False)
class CountedTransitions:
    """n transitions (s, a, s') of a tabular MDP, without rewards; three arrays [n].

    Raises UserError on arrays of different length, none, or entries that are no whole numbers.
    """

    states: Ints
    actions: Ints
    successors: Ints

    def __post_init__(self) -> None:
        for name in ("states", "actions", "successors"):
            column = np.asarray(getattr(self, name))
            if column.ndim != 1 or not column.size or not np.issubdtype(column.dtype, np.integer):
                raise UserError(
                    f"{name} of transitions are whole numbers [n], got {column.dtype} "
                    f"{list(column.shape)}"
                )
            object.__setattr__(self, name, column.astype(np.int64, copy=False))
        if not len(self.states) == len(self.actions) == len(self.successors):
            raise UserError(
                f"transitions need one state, action and successor each, got {len(self.states)}, "
                f"{len(self.actions)} and {len(self.successors)}"
            )

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def of(cls, rollouts: Rollouts) -> CountedTransitions:
        """Every step of ``rollouts`` whose successor is known, which the last one's is not."""
        states, actions = rollouts.states, rollouts.actions
        return cls(states[:, :-1].ravel(), actions[:, :-1].ravel(), states[:, 1:].ravel())

    def and_also(self, others: CountedTransitions) -> CountedTransitions:
        """Both together."""
        return CountedTransitions(
            np.concatenate([self.states, others.states]),
            np.concatenate([self.actions, others.actions]),
            np.concatenate([self.successors, others.successors]),
        )


@dataclass(frozen=True, eq=False)
class EstimatedModel:
    """What is known of an MDP from transitions.

    Attributes:
        mdp: P_hat, with the true initial distribution and discount.
        counts: N(s,a), [S, A].
        penalty: U(s,a) <= 0, [S, A].
    """

    mdp: TabularMDP
    counts: Array
    penalty: Array


def draw_transitions(
    mdp: TabularMDP, pairs: Any, count: int, rng: np.random.Generator
) -> CountedTransitions:
    """``count`` independent transitions whose (s, a) are drawn in proportion to ``pairs`` [S, A].

    With an occupancy as ``pairs`` it is the data that Theorem 3 is about. Raises UserError when
    ``pairs`` holds negative numbers or nothing, and on a count below one.
    """
    weights = check_finite("the pairs", check_shape("the pairs", pairs, mdp.shape)).ravel()
    if weights.min() < 0 or not weights.sum() > 0 or count < 1:
        raise UserError(
            f"need weights >= 0 that are not all 0, and count >= 1, got weights from "
            f"{weights.min():.3g} to {weights.max():.3g} and {count=}"
        )
    drawn = rng.choice(len(weights), size=count, p=weights / weights.sum())
    states, actions = np.divmod(drawn, mdp.actions)
    return CountedTransitions(states, actions, mdp.kernel.draw(states, actions, rng.random(count)))


def estimate_model(
    transitions: CountedTransitions, like: TabularMDP, *, penalty_coef: float = 0.0
) -> EstimatedModel:
    """The model that ``transitions`` make.

    Args:
        like: gives S, A, the initial distribution and the discount; its dynamics are not looked at.
        penalty_coef: of U.

    Raises UserError on states or actions that the MDP does not have, and a negative coefficient.
    """
    if penalty_coef < 0:
        raise UserError(f"penalty_coef must be >= 0, got {penalty_coef}: a penalty lowers rewards")
    states, actions = like.shape
    for name, column, size in (
        ("state", transitions.states, states),
        ("action", transitions.actions, actions),
        ("successor", transitions.successors, states),
    ):
        if column.min() < 0 or column.max() >= size:
            raise UserError(
                f"transitions hold {name}s from {column.min()} to {column.max()}, the MDP has "
                f"{size}: they are of another MDP"
            )
    rows = transitions.states * actions + transitions.actions
    counts = np.bincount(rows, minlength=states * actions).astype(np.float64)
    unseen = np.flatnonzero(counts == 0)
    ones = np.ones(len(rows) + len(unseen))
    where = (
        np.concatenate([rows, unseen]),
        np.concatenate([transitions.successors, unseen // actions]),
    )
    table = csr_array((ones, where), shape=(states * actions, states))  # sums up what repeats
    table.data /= np.repeat(np.maximum(counts, 1.0), np.diff(table.indptr))
    kernel: Kernel = SparseKernel(table)
    if states * actions * states <= _DENSE:
        kernel = DenseKernel(table.toarray().reshape(states, actions, states))
    seen = counts.reshape(like.shape)
    penalty = -penalty_coef / np.sqrt(seen + 1.0)
    return EstimatedModel(TabularMDP(kernel, like.initial, like.gamma), seen, penalty)
