"""Gridworlds: five moves, slippery ground and walls; sparse from 64 cells to 10^5 and beyond."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Ints
from irl_align.tabular.kernels import DenseKernel, Kernel, SparseKernel
from irl_align.tabular.linear_systems import Method
from irl_align.tabular.mdp import TabularMDP, make_mdp

__all__ = ["ACTIONS", "Gridworld", "gridworld"]

ACTIONS = ("up", "right", "down", "left", "stay")
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1), (0, 0)])  # [A, 2] in (row, column)
# Below this many states a dense kernel is the faster one.
DENSE_STATES = 64


@dataclass(frozen=True, eq=False)
class Gridworld:
    """The MDP and where its states lie: ``cells`` [S, 2] in (row, column)."""

    mdp: TabularMDP
    cells: Ints
    numbers: Ints  # [rows, columns], -1 in a wall

    def state(self, row: int, column: int) -> int:
        """The number of a free cell; UserError for a wall or outside of the grid."""
        rows, columns = self.numbers.shape
        inside = 0 <= row < rows and 0 <= column < columns
        if not inside or self.numbers[row, column] < 0:
            raise UserError(
                f"cell ({row}, {column}) is {'a wall' if inside else 'not in the grid'}"
            )
        return int(self.numbers[row, column])


def gridworld(
    rows: int,
    columns: int,
    *,
    gamma: float,
    slip: float = 0.1,
    walls: Collection[tuple[int, int]] = (),
    initial: Any = None,
    dense: bool | None = None,
    method: Method = "auto",
) -> Gridworld:
    """A ``rows`` x ``columns`` world with the actions up, right, down, left and stay.

    With probability ``slip`` the ground decides: one of the five actions, uniformly, happens
    instead. A move into a wall or over the edge stays where it is. States are the free cells in
    reading order; ``initial`` [S] is uniform by default. The kernel is dense below 64 states
    unless ``dense`` says otherwise; ``method`` is for the sparse one.

    Raises UserError on a size below one, a slip outside [0, 1] and walls that are not in the grid
    or fill it.
    """
    if rows < 1 or columns < 1:
        raise UserError(f"a gridworld needs at least one row and column, got {rows} x {columns}")
    if not 0 <= slip <= 1:
        raise UserError(f"slip must lie in [0, 1], got {slip}")
    free = np.ones((rows, columns), dtype=bool)
    for row, column in walls:
        if not (0 <= row < rows and 0 <= column < columns):
            raise UserError(f"wall ({row}, {column}) is not in the {rows} x {columns} grid")
        free[row, column] = False
    if not free.any():
        raise UserError("the walls fill the grid: no state is left")
    cells = np.argwhere(free)  # [S, 2]
    numbers = np.full((rows, columns), -1, dtype=np.int64)
    numbers[free] = np.arange(len(cells))

    target = cells[:, None, :] + MOVES[None]  # [S, A, 2]
    inside = ((target >= 0) & (target < (rows, columns))).all(2)
    clipped = np.clip(target, 0, (rows - 1, columns - 1))
    after = np.where(inside, numbers[clipped[..., 0], clipped[..., 1]], -1)
    after = np.where(after < 0, np.arange(len(cells))[:, None], after)  # [S, A]

    states, actions = after.shape
    chance = np.full((actions, actions), slip / actions) + (1 - slip) * np.eye(actions)
    entries = (
        np.broadcast_to(chance, (states, actions, actions)).reshape(-1),
        np.broadcast_to(after[:, None, :], (states, actions, actions)).reshape(-1),
        np.arange(0, states * actions**2 + 1, actions),
    )
    matrix = csr_array(entries, shape=(states * actions, states))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    kernel: Kernel
    if states < DENSE_STATES if dense is None else dense:
        kernel = DenseKernel(matrix.toarray().reshape(states, actions, states))
    else:
        kernel = SparseKernel(matrix, method)
    return Gridworld(make_mdp(kernel, gamma, initial), cells, numbers)
