from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.gridworld import ACTIONS, gridworld
from irl_align.tabular.kernels import DenseKernel, SparseKernel

UP, RIGHT, DOWN, LEFT, STAY = range(5)


def test_moves_by_hand():
    """2 x 3 with a wall at the lower left:   0 1 2 / # 3 4"""
    world = gridworld(2, 3, gamma=0.9, slip=0.0, walls=[(1, 0)], dense=True)
    assert len(ACTIONS) == world.mdp.actions == 5
    after = world.mdp.kernel.probabilities.argmax(2)
    assert after.tolist() == [
        [0, 1, 0, 0, 0],
        [1, 2, 3, 0, 1],
        [2, 2, 4, 1, 2],
        [1, 4, 3, 3, 3],
        [2, 4, 4, 3, 4],
    ]
    assert world.state(1, 1) == 3 and world.cells[3].tolist() == [1, 1]


def test_slip_shares_the_ground_among_all_actions():
    world = gridworld(3, 3, gamma=0.9, slip=0.2, dense=True)
    row = world.mdp.kernel.probabilities[world.state(1, 1), RIGHT]
    expected = np.zeros(9)
    expected[world.state(1, 2)] = 0.8 + 0.04
    for row_, column in [(0, 1), (2, 1), (1, 0), (1, 1)]:
        expected[world.state(row_, column)] = 0.04
    np.testing.assert_allclose(row, expected)
    # in the corner, bumping and staying fall together
    corner = world.mdp.kernel.probabilities[0, UP]
    np.testing.assert_allclose(corner[[0, 1, 3]], [0.8 + 3 * 0.04, 0.04, 0.04])


def test_dense_and_sparse_are_one_world():
    options = {"gamma": 0.9, "slip": 0.3, "walls": [(1, 1), (2, 3)]}
    sparse = gridworld(4, 5, dense=False, **options).mdp.kernel
    dense = gridworld(4, 5, dense=True, **options).mdp.kernel
    assert isinstance(sparse, SparseKernel) and isinstance(dense, DenseKernel)
    np.testing.assert_allclose(
        sparse.matrix.toarray().reshape(18, 5, 18), dense.probabilities, rtol=1e-15
    )
    assert isinstance(gridworld(8, 8, gamma=0.9).mdp.kernel, SparseKernel)
    assert isinstance(gridworld(7, 9, gamma=0.9).mdp.kernel, DenseKernel)


def test_a_hundred_thousand_states_are_five_entries_a_row():
    kernel = gridworld(316, 317, gamma=0.99).mdp.kernel
    assert kernel.states == 100_172
    assert kernel.matrix.nnz <= 5 * kernel.states * kernel.actions
    values = np.arange(kernel.states, dtype=float)
    inner = 150 * 317 + 150
    np.testing.assert_allclose(
        kernel.expect(values)[inner], inner + 0.9 * np.array([-317, 1, 317, -1, 0]), rtol=1e-12
    )


def test_errors():
    with pytest.raises(UserError, match="at least one row"):
        gridworld(0, 3, gamma=0.9)
    with pytest.raises(UserError, match="slip"):
        gridworld(2, 2, gamma=0.9, slip=1.1)
    with pytest.raises(UserError, match=r"wall \(2, 0\) is not in the 2 x 2 grid"):
        gridworld(2, 2, gamma=0.9, walls=[(2, 0)])
    with pytest.raises(UserError, match="no state is left"):
        gridworld(1, 1, gamma=0.9, walls=[(0, 0)])
    world = gridworld(2, 2, gamma=0.9, walls=[(0, 0)])
    with pytest.raises(UserError, match=r"cell \(0, 0\) is a wall"):
        world.state(0, 0)
    with pytest.raises(UserError, match=r"cell \(0, 2\) is not in the grid"):
        world.state(0, 2)
