from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.comparison import greedy_policy
from irl_align.tabular.gridworld import gridworld
from irl_align.tabular.maxent import maxent_irl
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.occupancy import occupancy
from irl_align.tabular.planning import soft_policy_iteration
from irl_align.tabular.rewards import LinearReward, one_hot

THETA = np.array([1.0, -1.0, 0.5, 2.0])


@pytest.fixture
def problem(tables):
    world = tables(0)
    mdp = make_mdp(world.kernel, 0.9, world.initial)
    family = LinearReward(mdp, np.random.default_rng(10).normal(size=(6, 3, 4)))
    expert = soft_policy_iteration(mdp, family.values(THETA)).policy
    return mdp, family, occupancy(mdp, expert)


def test_it_finds_theta_and_matches_features(problem):
    mdp, family, visits = problem
    found = maxent_irl(mdp, family, visits)
    np.testing.assert_allclose(found.theta, THETA, atol=1e-6)
    np.testing.assert_allclose(found.visits, visits, atol=1e-6)
    assert found.feature_gap < 1e-7
    np.testing.assert_allclose(
        family.expectation(found.visits), family.expectation(visits), atol=1e-7
    )


def test_any_expert_is_matched_in_its_features(tables, problem):
    """The expert need not be soft-optimal for any reward of the family."""
    mdp, family, _ = problem
    visits = occupancy(mdp, tables(3).policy)
    found = maxent_irl(mdp, family, visits)
    assert found.feature_gap < 1e-7
    assert np.abs(found.visits - visits).max() > 1e-2


def test_algorithm_1_climbs_to_the_same_maximum(problem):
    mdp, family, visits = problem
    dual = maxent_irl(mdp, family, visits)
    loop = ml_irl(mdp, family, visits, rounds=1500, alpha0=5.0)
    assert loop.history[-1]["eval/likelihood"] == pytest.approx(dual.likelihood, abs=1e-5)
    np.testing.assert_allclose(loop.reward, dual.theta, atol=5e-3)


def test_the_penalty_shrinks_theta_by_the_book(problem):
    """At the optimum Phi_E - Phi(pi) = l2 theta."""
    mdp, family, visits = problem
    found = maxent_irl(mdp, family, visits, l2=0.3)
    left = family.expectation(visits - found.visits)
    np.testing.assert_allclose(left, 0.3 * found.theta, atol=1e-6)
    assert np.linalg.norm(found.theta) < 0.9 * np.linalg.norm(THETA)


def test_a_deterministic_expert_needs_a_penalty_to_stay_finite(problem):
    mdp, _, _ = problem
    family = one_hot(mdp)
    visits = occupancy(mdp, greedy_policy(mdp, np.random.default_rng(0).normal(size=mdp.shape)))
    free = maxent_irl(mdp, family, visits, tolerance=1e-6)
    tame = maxent_irl(mdp, family, visits, l2=0.1)
    assert np.abs(free.theta).max() > 8 > 3 > np.abs(tame.theta).max()
    assert (tame.solution.policy.argmax(1) == visits.argmax(1)).all()


def test_a_sparse_gridworld(problem):
    world = gridworld(10, 10, gamma=0.9)
    true = np.zeros(100)
    true[[0, 99]] = -1.0, 2.0
    expert = soft_policy_iteration(world.mdp, true).policy
    found = maxent_irl(
        world.mdp, one_hot(world.mdp, state_only=True), occupancy(world.mdp, expert), tolerance=1e-7
    )
    np.testing.assert_allclose(found.solution.policy, expert, atol=1e-4)


def test_errors(problem):
    mdp, family, visits = problem
    with pytest.raises(UserError, match="the expert must have shape"):
        maxent_irl(mdp, family, visits.T)
    with pytest.raises(UserError, match="l2"):
        maxent_irl(mdp, family, visits, l2=-1)
    with pytest.raises(UserError, match=r"not at its maximum after .* raise max_evaluations"):
        maxent_irl(mdp, family, 5 * visits, max_evaluations=2)
