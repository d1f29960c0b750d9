"""Demonstrations identify the reward up to r + gamma E[Phi(s')] - Phi(s), and no further.

Two rewards have one soft policy exactly when they differ by a shaping, and then Phi = V - V'.
"""

from __future__ import annotations

import numpy as np
import pytest

from irl_align.tabular.comparison import levelled_distance, policy_regret
from irl_align.tabular.maxent import maxent_irl
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.rewards import one_hot
from irl_align.tabular.shaping import fit_potential, shape_reward


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shaping_keeps_the_policy_and_moves_the_values(random_mdp, seed):
    problem = random_mdp(seed)
    rng = np.random.default_rng(seed)
    reward, potential = rng.normal(size=(6, 3)), 5 * rng.normal(size=6)
    _, values, log_pi = problem.optimum(reward)
    _, shaped_values, shaped = problem.optimum(shape_reward(problem.mdp, reward, potential))
    np.testing.assert_allclose(shaped, log_pi, atol=1e-10)
    np.testing.assert_allclose(shaped_values, values - potential, atol=1e-10)
    # shaped with another discount it is another problem
    wrong = reward + problem.kernel @ potential - potential[:, None]
    assert np.abs(problem.optimum(wrong)[2] - log_pi).max() > 0.1


def test_nothing_else_keeps_it(random_mdp):
    """The log policy is a reward of the class (Phi = V); any part outside moves the policy."""
    problem = random_mdp(3)
    rng = np.random.default_rng(3)
    reward = rng.normal(size=(6, 3))
    _, values, log_pi = problem.optimum(reward)
    potential, left = fit_potential(problem.mdp, log_pi - reward)
    assert left < 1e-9
    np.testing.assert_allclose(potential, values, atol=1e-7)
    # its own optimum is itself, with values of zero
    _, zero, again = problem.optimum(log_pi)
    np.testing.assert_allclose(again, log_pi, atol=1e-10)
    assert np.abs(zero).max() < 1e-9

    noise = rng.normal(size=(6, 3))
    kept, left = fit_potential(problem.mdp, noise)
    outside = noise - (shape_reward(problem.mdp, np.zeros((6, 3)), kept))
    assert left > 0.1
    assert np.abs(problem.optimum(reward + outside)[2] - log_pi).max() > 0.1


@pytest.fixture
def case(random_mdp):
    """An expert for a known (s, a) reward, and what the free (one-hot) family learns from it."""
    problem = random_mdp(5)
    true = problem.features @ problem.theta
    learned = maxent_irl(problem.mdp, one_hot(problem.mdp), problem.visits(problem.expert))
    return problem, true, learned.theta.reshape(6, 3), learned


def test_the_learned_reward_is_the_true_one_up_to_shaping(case):
    problem, true, learned, solution = case
    assert np.abs(learned - true).max() > 0.5  # as a table it is another reward
    potential, left = fit_potential(problem.mdp, learned - true)
    assert left < 1e-4
    _, values, _ = problem.optimum(true)
    np.testing.assert_allclose(potential, values - solution.solution.values, atol=1e-4)
    assert levelled_distance(problem.mdp, learned, true) < 1e-5
    assert policy_regret(problem.mdp, learned, true) < 1e-9


def test_two_starts_learn_two_rewards_of_one_class(case):
    problem, true, learned, _ = case
    visits = problem.visits(problem.expert)
    start = np.random.default_rng(0).normal(size=18)
    other = maxent_irl(problem.mdp, one_hot(problem.mdp), visits, theta=start)
    table = other.theta.reshape(6, 3)
    assert np.abs(table - learned).max() > 0.5
    assert fit_potential(problem.mdp, table - true)[1] < 1e-4
    # no step moves theta along a shaping, so the start's stays in
    potential, _ = fit_potential(problem.mdp, table - learned)
    expected, _ = fit_potential(problem.mdp, start.reshape(6, 3))
    np.testing.assert_allclose(potential, expected, atol=1e-4)


def test_in_other_dynamics_the_class_is_not_kept(case, random_mdp):
    """Why rewards are compared by policy or up to shaping, and what an (s, a) reward cannot do."""
    problem, true, learned, _ = case
    elsewhere = make_mdp(random_mdp(6).kernel, problem.gamma, problem.initial)
    assert policy_regret(elsewhere, learned, true) > 1e-2
    assert levelled_distance(elsewhere, learned, true) > 1e-2
