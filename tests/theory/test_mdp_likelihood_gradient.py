"""Lemma 1: grad L = E_E[sum_t g^t grad r] - E_{pi_theta}[sum_t g^t grad r] on MDPs.

L itself is written plainly (value iteration, power series) and differentiated by finite
differences; the right side comes from the package.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.core.objectives import contrast
from irl_align.tabular.neural import NeuralReward
from irl_align.tabular.occupancy import occupancy, surrogate_likelihood
from irl_align.tabular.planning import soft_policy_iteration
from irl_align.tabular.rewards import LinearReward


def reward_family(problem, kind):
    features = problem.features
    return {
        "linear": lambda: LinearReward(problem.mdp, features),
        "linear, states": lambda: LinearReward(problem.mdp, features[:, 0]),
        "neural": lambda: NeuralReward(problem.mdp, features, (4, 3)),
        "neural, states": lambda: NeuralReward(problem.mdp, features[:, 0], (4, 3)),
    }[kind]()


@pytest.mark.parametrize("kind", ["linear", "linear, states", "neural", "neural, states"])
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_against_finite_differences(random_mdp, kind, seed):
    problem = random_mdp(seed)
    family = reward_family(problem, kind)
    theta = np.random.default_rng(seed).normal(size=family.size)
    policy = soft_policy_iteration(problem.mdp, family.values(theta), tolerance=1e-13).policy
    difference = occupancy(problem.mdp, problem.expert) - occupancy(problem.mdp, policy)
    found = family.gradient(theta, difference)

    step = 1e-5
    expected = np.array(
        [
            problem.likelihood(family.values(theta + step * e))
            - problem.likelihood(family.values(theta - step * e))
            for e in np.eye(family.size)
        ]
    ) / (2 * step)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.97])
def test_both_identities_of_the_likelihood(random_mdp, gamma):
    """E_E[sum g^t log pi] = E_E[sum g^t r] - E_{s0}[V]."""
    problem = random_mdp(3, gamma=gamma)
    reward = np.random.default_rng(0).normal(size=(6, 3))
    mdp = problem.mdp
    values = soft_policy_iteration(mdp, reward).values
    found = surrogate_likelihood(mdp, occupancy(mdp, problem.expert), reward, values)
    assert found == pytest.approx(problem.likelihood(reward), rel=1e-9)


def test_the_contrast_of_core_is_minus_this_gradient(random_mdp):
    """One objective for all domains: returns are occupancies times rewards here."""
    problem = random_mdp(4)
    mdp, family = problem.mdp, LinearReward(problem.mdp, problem.features)
    theta = torch.tensor(problem.theta * 0.3, requires_grad=True)
    policy = np.exp(problem.optimum(problem.features @ theta.detach().numpy())[2])
    expert, agent = (torch.from_numpy(occupancy(mdp, pi)) for pi in (problem.expert, policy))
    reward = torch.from_numpy(problem.features) @ theta
    loss = contrast((expert * reward).sum()[None], (agent * reward).sum()[None])
    (gradient,) = torch.autograd.grad(loss, theta)
    found = family.gradient(theta.detach().numpy(), (expert - agent).numpy())
    np.testing.assert_allclose(-gradient.numpy(), found, rtol=1e-10)
