"""Lemma 3: for r(s; theta), maximum likelihood is the least soft-value gap to the expert,

    min_theta  E_{s0}[V_{r,pi_theta}] - E_{s0}[V_{r,pi_E}],

whose second term differs from the expert's return by its entropy, a constant. So only states are
needed. And what they identify travels to other dynamics.
"""

from __future__ import annotations

import numpy as np
import pytest

from irl_align.tabular.comparison import policy_regret
from irl_align.tabular.maxent import maxent_irl
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.occupancy import occupancy
from irl_align.tabular.planning import soft_policy_evaluation, soft_policy_iteration
from irl_align.tabular.rewards import LinearReward, one_hot


def value_gap(problem, reward):
    """E_{s0}[V*_r] - E_{s0}[V^{pi_E}_r], never negative."""
    _, expert = soft_policy_evaluation(problem.mdp, reward, problem.expert)
    best = soft_policy_iteration(problem.mdp, reward, tolerance=1e-13).values
    return float(problem.initial @ (best - expert))


@pytest.fixture
def case(random_mdp):
    problem = random_mdp(7)
    return problem, LinearReward(problem.mdp, problem.features[:, 0])


def test_gap_plus_likelihood_is_constant(case):
    """L(theta) + gap(theta) = -H(pi_E) for every theta: the same maximisers, the same gradient."""
    problem, family = case
    visits = problem.visits(problem.expert)
    entropy = -(visits * np.log(problem.expert)).sum()
    rng = np.random.default_rng(0)
    gaps = []
    for scale in (0.0, 0.3, 1.0, 3.0, 10.0):
        reward = family.values(scale * rng.normal(size=family.size))
        gaps.append(value_gap(problem, reward))
        assert problem.likelihood(reward) + gaps[-1] == pytest.approx(-entropy, abs=1e-8)
    assert min(gaps) >= 0 and np.ptp(gaps) > 1


def test_the_gap_falls_along_the_likelihood_gradient(case):
    problem, family = case
    theta = np.random.default_rng(1).normal(size=family.size)
    policy = np.exp(problem.optimum(family.values(theta))[2])
    gradient = family.gradient(theta, problem.visits(problem.expert) - problem.visits(policy))
    step = 1e-5
    expected = [
        (
            value_gap(problem, family.values(theta + step * e))
            - value_gap(problem, family.values(theta - step * e))
        )
        / (2 * step)
        for e in np.eye(family.size)
    ]
    np.testing.assert_allclose(-gradient, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(gradient).max() > 1e-2


def test_the_maximum_likelihood_is_the_least_gap(case):
    problem, family = case
    best = maxent_irl(problem.mdp, family, problem.visits(problem.expert)).theta
    least = value_gap(problem, family.values(best))
    assert least > 1e-3  # the expert's reward depends on actions: no state-only reward explains it
    rng = np.random.default_rng(2)
    for _ in range(10):
        around = best + 0.1 * rng.normal(size=family.size)
        assert value_gap(problem, family.values(around)) > least


def test_only_states_are_needed(case):
    """Experts that differ in their actions alone teach the same; an (s, a) reward hears both."""
    problem, _ = case
    # a second copy of every action: the same successors under another name
    mdp = make_mdp(
        np.concatenate([problem.kernel, problem.kernel], axis=1), problem.gamma, problem.initial
    )
    first = np.concatenate([problem.expert, np.zeros((6, 3))], axis=1)
    second = first[:, [3, 4, 5, 0, 1, 2]]
    experts = [occupancy(mdp, policy) for policy in (first, second)]
    assert np.abs(experts[0] - experts[1]).max() > 0.1
    rng = np.random.default_rng(3)
    over_states = LinearReward(mdp, rng.normal(size=(6, 4)))
    over_pairs = LinearReward(mdp, rng.normal(size=(6, 6, 4)))
    a, b = (ml_irl(mdp, over_states, d, rounds=20, alpha0=1.0).reward for d in experts)
    np.testing.assert_allclose(a, b, rtol=1e-9)
    assert np.linalg.norm(a) > 0.1
    a, b = (ml_irl(mdp, over_pairs, d, rounds=20, alpha0=1.0).reward for d in experts)
    assert np.abs(a - b).max() > 0.1


def test_a_state_reward_is_identified_up_to_a_constant_and_travels(random_mdp):
    problem = random_mdp(8)
    true = np.random.default_rng(8).normal(size=6)
    expert = np.exp(problem.optimum(np.repeat(true[:, None], 3, axis=1))[2])
    learned = maxent_irl(
        problem.mdp, one_hot(problem.mdp, state_only=True), problem.visits(expert)
    ).theta
    assert np.ptp(learned - true) < 1e-5
    elsewhere = make_mdp(random_mdp(9).kernel, problem.gamma, problem.initial)
    assert policy_regret(elsewhere, learned, true) < 1e-8
    assert policy_regret(elsewhere, -learned, true) > 1e-2
