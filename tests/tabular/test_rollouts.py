from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.garnet import garnet
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.occupancy import occupancy
from irl_align.tabular.rollouts import Rollouts, horizon_for, roll_out


def test_pairs_start_and_follow_as_they_should(tables):
    """Deterministic everything: the trajectory is known, and (s_t, a_t) belong together."""
    kernel = np.zeros((4, 2, 4))
    for s in range(4):
        kernel[s, 0, (s + 1) % 4] = kernel[s, 1, s] = 1  # go on, or stay
    policy = np.eye(2)[[0, 0, 1, 0]]
    drawn = roll_out(make_mdp(kernel, 0.9, np.eye(4)[3]), policy, 2, 5, np.random.default_rng(0))
    assert drawn.states.tolist() == [[3, 0, 1, 2, 2]] * 2
    assert drawn.actions.tolist() == [[0, 0, 0, 1, 1]] * 2
    assert len(drawn) == 2 and drawn.horizon == 5


@pytest.mark.parametrize("dense", [True, False])
def test_the_sampled_occupancy_is_the_exact_one(dense):
    mdp = garnet(8, 3, 4, gamma=0.8, seed=0, dense=dense, initial=np.eye(8)[2])
    policy = np.random.default_rng(1).dirichlet(np.ones(3), size=8)
    episodes = 20_000
    drawn = roll_out(mdp, policy, episodes, horizon_for(0.8, 1e-4), np.random.default_rng(2))
    found, exact = drawn.occupancy(mdp), occupancy(mdp, policy)
    # an entry's standard deviation over episodes is at most sqrt(d(s,a) / (1 - gamma))
    assert (np.abs(found - exact) < 5 * np.sqrt(exact * mdp.mass / episodes) + 1e-3).all()
    assert np.abs(found - exact).max() < 0.02
    assert found.sum() == pytest.approx((1 - 0.8**drawn.horizon) * mdp.mass)


def test_discount_counts_from_zero():
    rollouts = Rollouts(np.array([[0, 1, 1]]), np.array([[1, 0, 0]]))
    visits = rollouts.occupancy(make_mdp(np.full((2, 2, 2), 0.5), 0.5))
    np.testing.assert_allclose(visits, [[0, 1], [0.75, 0]])
    both = Rollouts(np.array([[0], [1]]), np.array([[0], [1]]))
    np.testing.assert_allclose(
        both.occupancy(make_mdp(np.full((2, 2, 2), 0.5), 0.5)), [[0.5, 0], [0, 0.5]]
    )
    np.testing.assert_array_equal(both.pick(np.array([1, 1])).states, [[1], [1]])


def test_a_seed_is_a_sample(tables):
    world = tables(0)
    mdp = make_mdp(world.kernel, 0.9)
    a, b, c = (
        roll_out(mdp, world.policy, 3, 10, np.random.default_rng(seed)).states for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_horizon_is_the_first_that_suffices():
    for gamma in (0.3, 0.9, 0.99):
        steps = horizon_for(gamma, 1e-2)
        assert gamma**steps <= 1e-2 < gamma ** (steps - 1)
    with pytest.raises(UserError, match="tail"):
        horizon_for(0.9, 1.0)


def test_errors(tables):
    world = tables(0)
    mdp = make_mdp(world.kernel, 0.9)
    one = np.array([[0, 1]])
    with pytest.raises(UserError, match="one action a state"):
        Rollouts(one, one[:, :1])
    with pytest.raises(UserError, match="whole numbers, got float64"):
        Rollouts(one, one * 1.0)
    with pytest.raises(UserError, match=r"shape \[N, T\]"):
        Rollouts(one[0], one[0])
    with pytest.raises(UserError, match="hold actions from 0 to 3, the MDP has 3 actions"):
        Rollouts(one, 3 * one).occupancy(mdp)
    with pytest.raises(UserError, match="hold states from -1"):
        Rollouts(-one, one).occupancy(mdp)
    with pytest.raises(UserError, match="episodes"):
        roll_out(mdp, world.policy, 0, 5, np.random.default_rng(0))
