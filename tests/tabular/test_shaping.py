from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.planning import soft_policy_evaluation
from irl_align.tabular.shaping import fit_potential, level, shape_reward, shaping

POTENTIAL = np.array([1.0, -2.0, 0.0, 3.0, 0.5, -1.0])


@pytest.fixture(params=["dense", "sparse"])
def mdp(request, tables):
    kernel = tables(0, zeros=True).kernel
    return make_mdp(kernel if request.param == "dense" else csr_array(kernel.reshape(18, 6)), 0.9)


def test_shaping_by_hand():
    kernel = np.zeros((2, 1, 2))
    kernel[0, 0, 1] = kernel[1, 0, 0] = 1
    found = shaping(make_mdp(kernel, 0.5), [1.0, 3.0])
    np.testing.assert_array_equal(found, [[0.5 * 3 - 1], [0.5 * 1 - 3]])


def test_shaped_values_move_by_the_potential(mdp, tables):
    """V'(s) = V(s) - Phi(s) for every policy: the sign and the discount in one line."""
    world = tables(0)
    _, plain = soft_policy_evaluation(mdp, world.reward, world.policy)
    _, shaped = soft_policy_evaluation(
        mdp, shape_reward(mdp, world.reward, POTENTIAL), world.policy
    )
    np.testing.assert_allclose(shaped, plain - POTENTIAL, rtol=1e-9)


def test_levelling_forgets_shaping_and_nothing_else(mdp, tables):
    reward = tables(0).reward
    levelled = level(mdp, reward)
    np.testing.assert_allclose(
        level(mdp, shape_reward(mdp, reward, POTENTIAL)), levelled, atol=1e-10
    )
    np.testing.assert_allclose(level(mdp, levelled), levelled, atol=1e-10)
    np.testing.assert_allclose(level(mdp, 3 * reward + 7), 3 * levelled, atol=1e-9)
    assert fit_potential(mdp, levelled - reward)[1] < 1e-9
    assert np.abs(levelled.mean(1)).max() < 1e-10  # the uniform policy is worth zero
    assert np.abs(levelled).max() > 0.1


def test_a_potential_is_found_again(mdp, tables):
    potential, left = fit_potential(mdp, shaping(mdp, POTENTIAL))
    np.testing.assert_allclose(potential, POTENTIAL, atol=1e-8)
    assert left < 1e-9
    # a constant is a shaping
    potential, left = fit_potential(mdp, np.full(mdp.shape, 2.0))
    np.testing.assert_allclose(potential, -20, rtol=1e-8)
    assert left < 1e-9
    # most differences are not
    assert fit_potential(mdp, tables(1).reward)[1] > 0.1


def test_least_squares_is_the_dense_one(mdp, tables):
    target = tables(1).reward
    columns = np.stack([shaping(mdp, e).ravel() for e in np.eye(6)], axis=1)
    expected = np.linalg.lstsq(columns, target.ravel())[0]
    np.testing.assert_allclose(fit_potential(mdp, target)[0], expected, atol=1e-8)


def test_errors(mdp):
    with pytest.raises(UserError, match=r"the potential must have shape \[6\]"):
        shaping(mdp, np.zeros(5))
    with pytest.raises(UserError, match="the potential"):
        shaping(mdp, np.full(6, np.nan))
