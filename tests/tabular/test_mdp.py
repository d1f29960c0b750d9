from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.tabular.kernels import DenseKernel, SparseKernel
from irl_align.tabular.mdp import TabularMDP, make_mdp


def test_every_way_to_give_a_kernel(tables):
    table = tables(0).kernel
    assert isinstance(make_mdp(table, 0.9).kernel, DenseKernel)
    assert isinstance(make_mdp(csr_array(table.reshape(18, 6)), 0.9).kernel, SparseKernel)
    mdp = make_mdp(DenseKernel(table), 0.9)
    assert mdp.shape == (6, 3) and mdp.mass == pytest.approx(10)
    np.testing.assert_allclose(mdp.initial, 1 / 6)


def test_bad_parts_are_user_errors(tables):
    kernel = DenseKernel(tables(0).kernel)
    with pytest.raises(UserError, match="gamma"):
        make_mdp(kernel, 1.0)
    with pytest.raises(UserError, match=r"initial distribution must have shape \[6\]"):
        TabularMDP(kernel, np.full(5, 0.2), 0.9)
    with pytest.raises(UserError, match=r"initial distribution: the probabilities sum to 1\.2"):
        TabularMDP(kernel, np.full(6, 0.2), 0.9)


def test_rewards_over_states_stand_for_every_action(tables):
    mdp = make_mdp(tables(0).kernel, 0.9)
    np.testing.assert_array_equal(mdp.check_reward(np.arange(6))[:, 2], np.arange(6))
    with pytest.raises(UserError, match=r"the reward must have shape \[6, 3\], got \[3, 6\]"):
        mdp.check_reward(np.zeros((3, 6)))
