"""Theorem 1 with its sign mended: L(theta*) = -H(pi*), and maximum likelihood is the dual.

H(pi) = -E_pi[sum_t g^t log pi] is positive and L is a sum of log-probabilities, so the printed
L(theta*) = H(pi*) cannot be.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import null_space

from irl_align.tabular.maxent import maxent_irl
from irl_align.tabular.rewards import LinearReward


@pytest.fixture(params=[0, 1, 2])
def case(request, random_mdp):
    """A problem whose expert is *not* of the family, its dual solution, and plain L and H."""
    problem = random_mdp(request.param)
    rng = np.random.default_rng(request.param)
    problem = type(problem)(**{**problem.__dict__, "expert": rng.dirichlet(np.ones(3), size=6)})
    visits = problem.visits(problem.expert)
    found = maxent_irl(problem.mdp, LinearReward(problem.mdp, problem.features), visits)
    return problem, visits, found


def entropy(visits):
    return -(visits * np.log(visits / visits.sum(1, keepdims=True))).sum()


def test_likelihood_is_minus_entropy(case):
    problem, _, found = case
    likelihood = problem.likelihood(problem.features @ found.theta)
    best_entropy = entropy(problem.visits(found.solution.policy))
    assert likelihood == pytest.approx(-best_entropy, abs=1e-6)
    assert best_entropy > 1  # so the other sign is far away
    # what the solution reports is the same
    assert found.likelihood == pytest.approx(likelihood, abs=1e-8)
    assert found.entropy == pytest.approx(best_entropy, abs=1e-8)
    assert abs(found.duality_gap) < 1e-6


def test_features_match(case):
    problem, visits, found = case
    expected = np.einsum("sa,sad->d", visits, problem.features)
    mine = np.einsum("sa,sad->d", problem.visits(found.solution.policy), problem.features)
    np.testing.assert_allclose(mine, expected, atol=1e-6)
    assert np.abs(visits - found.visits).max() > 1e-2  # though the expert is another policy


def test_no_policy_with_these_features_has_more_entropy(case):
    """The primal side: every direction that keeps flow and features loses entropy."""
    problem, visits, found = case
    flow = np.repeat(np.eye(6), 3, axis=1) - problem.gamma * problem.kernel.reshape(18, 6).T
    keep = null_space(np.vstack([flow, problem.features.reshape(18, -1).T]))
    assert keep.shape[1] >= 5
    best = entropy(found.visits)
    for direction in [*keep.T, *-keep.T, (visits - found.visits).ravel()]:
        step = 0.01 * direction.reshape(6, 3) / np.abs(direction).max()
        assert (found.visits + step > 0).all()
        assert entropy(found.visits + step) < best - 1e-7
    # a direction that breaks the features can gain: the constraint is what binds
    free = null_space(flow)
    gains = [
        entropy(found.visits + sign * 1e-3 * d.reshape(6, 3)) - best
        for d in free.T
        for sign in (1, -1)
    ]
    assert max(gains) > 1e-4


def test_the_dual_is_concave_with_its_maximum_there(case):
    problem, _, found = case
    rng = np.random.default_rng(0)
    top = problem.likelihood(problem.features @ found.theta)
    for _ in range(5):
        a, b = rng.normal(size=(2, 5))
        middle, left, right = (
            problem.likelihood(problem.features @ theta) for theta in ((a + b) / 2, a, b)
        )
        assert middle > (left + right) / 2
        assert max(left, right) < top
