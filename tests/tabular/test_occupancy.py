"""Occupancies, entropies and likelihoods against the enumeration of all trajectories."""

from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.garnet import garnet
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.occupancy import (
    conditional_policy,
    discounted_entropy,
    flow_residual,
    log_likelihood,
    occupancy,
    surrogate_likelihood,
)
from irl_align.tabular.planning import soft_policy_iteration

GAMMA, STEPS = 0.15, 9  # what lies behind nine steps is below 5e-8


@pytest.fixture(scope="module")
def tiny():
    """Two states, two actions: 4^9 trajectories, all of them."""
    rng = np.random.default_rng(0)
    kernel = rng.dirichlet(np.ones(2), size=(2, 2))
    return kernel, np.array([0.3, 0.7]), rng.dirichlet(np.ones(2), size=2), rng


def test_occupancy_is_the_mean_over_all_trajectories(tiny, trajectories):
    kernel, initial, policy, _ = tiny
    chance, counts = trajectories(kernel, initial, policy, GAMMA, STEPS)
    assert len(chance) == 4**STEPS and chance.sum() == pytest.approx(1)
    found = occupancy(make_mdp(kernel, GAMMA, initial), policy)
    np.testing.assert_allclose(found.ravel(), chance @ counts, atol=6e-8)


def test_likelihood_and_entropy_are_means_over_all_trajectories(tiny, trajectories):
    kernel, initial, expert, rng = tiny
    mdp = make_mdp(kernel, GAMMA, initial)
    reward = rng.normal(size=(2, 2))
    optimum = soft_policy_iteration(mdp, reward)
    chance, counts = trajectories(kernel, initial, expert, GAMMA, STEPS)
    visits = occupancy(mdp, expert)

    by_path = chance @ (counts @ optimum.log_policy.ravel())
    assert log_likelihood(visits, optimum.log_policy) == pytest.approx(by_path, abs=1e-6)
    by_identity = surrogate_likelihood(mdp, visits, reward, optimum.values)
    assert by_identity == pytest.approx(by_path, abs=1e-6)
    entropy = -chance @ (counts @ np.log(expert).ravel())
    assert discounted_entropy(visits) == pytest.approx(entropy, abs=1e-6)
    # the expert explains itself best (Gibbs)
    assert by_path < -entropy - 1e-3


@pytest.mark.parametrize("dense", [True, False])
def test_flow_and_mass(dense):
    mdp = garnet(50, 3, 4, gamma=0.95, seed=1, dense=dense, initial=np.eye(50)[3])
    policy = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    visits = occupancy(mdp, policy)
    assert visits.sum() == pytest.approx(mdp.mass) == pytest.approx(20)
    assert flow_residual(mdp, visits) < 1e-12
    np.testing.assert_allclose(conditional_policy(visits), policy, rtol=1e-10)
    assert flow_residual(mdp, 1.1 * visits) > 0.09


def test_the_two_likelihoods_agree_only_on_these_dynamics(tables):
    world = tables(7)
    mdp = make_mdp(world.kernel, 0.9, world.initial)
    optimum = soft_policy_iteration(mdp, world.reward)
    visits = occupancy(mdp, world.policy)
    direct = log_likelihood(visits, optimum.log_policy)
    assert surrogate_likelihood(mdp, visits, world.reward, optimum.values) == pytest.approx(direct)
    elsewhere = occupancy(make_mdp(tables(8).kernel, 0.9, world.initial), world.policy)
    gap = surrogate_likelihood(mdp, elsewhere, world.reward, optimum.values) - log_likelihood(
        elsewhere, optimum.log_policy
    )
    assert abs(gap) > 1e-2


def test_never_visited_and_never_taken():
    visits = np.array([[0.0, 0.0], [3.0, 0.0]])
    np.testing.assert_array_equal(conditional_policy(visits), [[0.5, 0.5], [1.0, 0.0]])
    assert discounted_entropy(visits) == 0
    logs = np.array([[0.0, -np.inf], [np.log(0.5), np.log(0.5)]])
    assert log_likelihood(visits, logs) == pytest.approx(3 * np.log(0.5))
    logs[1] = -np.inf, 0.0
    assert log_likelihood(visits, logs) == -np.inf


def test_errors(tables):
    world = tables(0)
    mdp = make_mdp(world.kernel, 0.9)
    with pytest.raises(UserError, match="the policy"):
        occupancy(mdp, np.log(world.policy))
    with pytest.raises(UserError, match="give logarithms"):
        log_likelihood(world.policy, world.policy)
    with pytest.raises(UserError, match="occupancy must have shape"):
        flow_residual(mdp, np.zeros((3, 6)))
