"""Garnet problems: random MDPs with a chosen number of successors (Archibald et al., 1995)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Ints
from irl_align.tabular.kernels import DenseKernel, Kernel, SparseKernel
from irl_align.tabular.linear_systems import Method
from irl_align.tabular.mdp import TabularMDP, make_mdp

__all__ = ["garnet"]


def garnet(
    states: int,
    actions: int,
    branching: int,
    *,
    gamma: float,
    seed: int,
    initial: Any = None,
    dense: bool | None = None,
    method: Method = "auto",
) -> TabularMDP:
    """A random MDP: every (s, a) has ``branching`` distinct successors with Dirichlet(1) odds.

    The kernel is dense when at least a tenth of the successors is possible and the table stays
    below 10^7 entries, unless ``dense`` says otherwise. Raises UserError on sizes below one and a
    branching outside [1, states].
    """
    if states < 1 or actions < 1 or not 1 <= branching <= states:
        raise UserError(
            f"need states >= 1, actions >= 1 and 1 <= branching <= states, got {states=}, "
            f"{actions=}, {branching=}"
        )
    rng = np.random.default_rng(seed)
    rows = states * actions
    successors = _distinct(rng, rows, states, branching)
    odds = rng.exponential(size=(rows, branching))
    odds /= odds.sum(1, keepdims=True)
    pointers = np.arange(0, rows * branching + 1, branching)
    matrix = csr_array((odds.ravel(), successors.ravel(), pointers), shape=(rows, states))
    if dense is None:
        dense = branching * 10 >= states and rows * states <= 10**7
    kernel: Kernel
    if dense:
        kernel = DenseKernel(matrix.toarray().reshape(states, actions, states))
    else:
        kernel = SparseKernel(matrix, method)
    return make_mdp(kernel, gamma, initial)


def _distinct(rng: np.random.Generator, rows: int, population: int, size: int) -> Ints:
    """``rows`` uniform subsets of range(population), each of ``size``: [rows, size].

    Floyd's sampling, all rows at once: for j = n-size .. n-1 take a number up to j, or j itself
    when that number is in the subset already. It never holds a [rows, population] table.
    """
    chosen = np.empty((rows, size), dtype=np.int64)
    for k, j in enumerate(range(population - size, population)):
        number = rng.integers(0, j + 1, size=rows)
        taken = (chosen[:, :k] == number[:, None]).any(1)
        chosen[:, k] = np.where(taken, j, number)
    return chosen
