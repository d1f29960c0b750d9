"""Offline ML-IRL (thesis Alg. 3): what its surrogate is, and what it costs to climb it.

    Lemma 8     L - L_hat = gamma <d_E, (P_hat - P) V_theta>
    Lemma 9     |L - L_hat| <= gamma max|V| <d_E, |P_hat - P|_1>
    Lemma 10    grad L_hat = <d_E, grad r> - <d_theta in the model, grad r>
    Theorem 3   the likelihood lost falls with the number of transitions
    Theorem 5   with a linear reward L_hat is concave

Optima, occupancies and likelihoods come from plain power series and value iteration (conftest).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from irl_align.tabular.estimated import EstimatedModel, draw_transitions, estimate_model
from irl_align.tabular.maxent import maxent_irl
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.occupancy import surrogate_likelihood
from irl_align.tabular.offline import (
    ConservativeReward,
    likelihood_gap,
    likelihood_gap_bound,
    model_error,
    offline_ml_irl,
)
from irl_align.tabular.planning import log_policy
from irl_align.tabular.rewards import LinearReward


def a_model(problem, count, seed=0, penalty=0.5):
    """Of `count` transitions at random pairs."""
    rng = np.random.default_rng(seed)
    drawn = draw_transitions(problem.mdp, np.ones(problem.mdp.shape), count, rng)
    return estimate_model(drawn, problem.mdp, penalty_coef=penalty)


def in_the_model(problem, model):
    """The same problem with the model's dynamics, for the second implementation."""
    return replace(problem, kernel=model.mdp.kernel.probabilities)


def both(problem, model, theta):
    """L(theta), L_hat(theta) and V_theta, none of it by the package."""
    reward = problem.features @ theta + model.penalty
    _, values, log_pi = in_the_model(problem, model).optimum(reward)
    visits = problem.visits(problem.expert)
    surrogate = (visits * reward).sum() - problem.initial @ values
    return (visits * log_pi).sum(), surrogate, values


@pytest.mark.parametrize("count", [30, 300, 30_000])
@pytest.mark.parametrize("seed", range(3))
def test_lemma_8_and_9(random_mdp, seed, count):
    problem = random_mdp(seed)
    model = a_model(problem, count, seed)
    visits = problem.visits(problem.expert)
    for number in range(3):
        theta = np.random.default_rng([seed, number]).normal(size=5) * 10**number
        likelihood, surrogate, values = both(problem, model, theta)
        gap = likelihood_gap(problem.mdp, model, visits, values)
        scale = max(1.0, np.abs(values).max())
        assert abs(likelihood - surrogate - gap) <= 1e-8 * scale
        assert abs(gap) <= likelihood_gap_bound(problem.mdp, model, visits, values)
        assert count == 30_000 or abs(gap) > 1e-3  # or nothing was tested
        reward = problem.features @ theta + model.penalty
        ours = surrogate_likelihood(model.mdp, visits, reward, values)
        assert ours == pytest.approx(surrogate, abs=1e-9 * scale)


def test_lemma_9_is_nearly_attained():
    """Two rooms, one as good as the other is bad, and a model that mixes them up."""
    kernel = np.eye(2)[:, None, :]  # everybody stays
    mdp = make_mdp(kernel, 0.9, [1.0, 0.0])
    wrong = make_mdp(kernel[::-1], 0.9, [1.0, 0.0])
    model = EstimatedModel(wrong, np.ones((2, 1)), np.zeros((2, 1)))
    np.testing.assert_allclose(model_error(wrong.kernel, mdp.kernel), 2.0)
    # V = Q in a world of one action: V(0) = 1 + .9 V(1) and V(1) = -1 + .9 V(0)
    values = np.linalg.solve([[1, -0.9], [-0.9, 1]], [1.0, -1.0])
    visits = np.array([[10.0], [0.0]])
    gap = likelihood_gap(mdp, model, visits, values)
    bound = likelihood_gap_bound(mdp, model, visits, values)
    assert values == pytest.approx([1 / 1.9, -1 / 1.9])
    assert gap == pytest.approx(0.9 * 10 * (values[1] - values[0]))
    assert abs(gap) == pytest.approx(bound)


def test_a_model_may_be_wrong_where_the_expert_does_not_go(random_mdp):
    """The last action is never taken and the last state never reached: all there is made up."""
    problem = random_mdp(3)
    kernel = problem.kernel.copy()
    kernel[:, :2, 5] = 0
    kernel /= kernel.sum(2, keepdims=True)
    initial = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.0])
    expert = np.zeros((6, 3))
    expert[:, :2] = np.random.default_rng(0).dirichlet(np.ones(2), size=6)
    problem = replace(problem, kernel=kernel, initial=initial, expert=expert)
    rumour = kernel.copy()
    rumour[:, 2] = np.random.default_rng(1).dirichlet(np.ones(6), size=6)
    rumour[5] = np.random.default_rng(2).dirichlet(np.ones(6), size=3)
    model = EstimatedModel(make_mdp(rumour, 0.9, initial), np.ones((6, 3)), np.zeros((6, 3)))
    assert model_error(model.mdp.kernel, problem.mdp.kernel).sum() > 1
    theta = np.random.default_rng(3).normal(size=5)
    likelihood, surrogate, values = both(problem, model, theta)
    assert likelihood == pytest.approx(surrogate, abs=1e-9)
    assert likelihood_gap_bound(problem.mdp, model, problem.visits(expert), values) == 0
    # The same error where the expert does go costs something.
    rumour[:, 0] = np.random.default_rng(4).dirichlet(np.ones(6), size=6)
    model = replace(model, mdp=make_mdp(rumour, 0.9, initial))
    likelihood, surrogate, _ = both(problem, model, theta)
    assert abs(likelihood - surrogate) > 0.1


def test_lemma_10(random_mdp):
    problem = random_mdp(4)
    model = a_model(problem, 60)
    conservative = ConservativeReward(
        LinearReward(problem.mdp, problem.features), model.penalty, problem.mdp
    )
    theta = np.random.default_rng(0).normal(size=5)
    inside = in_the_model(problem, model)
    policy = np.exp(inside.optimum(conservative.values(theta))[2])
    weights = problem.visits(problem.expert) - inside.visits(policy)
    found = conservative.gradient(theta, weights)
    step = 1e-5
    expected = [
        (both(problem, model, theta + step * e)[1] - both(problem, model, theta - step * e)[1])
        / (2 * step)
        for e in np.eye(5)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    # In the world's own dynamics the agent's side is another: the gradient of neither objective.
    elsewhere = problem.visits(problem.expert) - problem.visits(policy)
    assert np.abs(conservative.gradient(theta, elsewhere) - expected).max() > 1e-2


def mild(problem):
    """With an expert that does everything now and then, so that every model can follow it."""
    theta = 0.3 * problem.theta
    return replace(
        problem, theta=theta, expert=np.exp(problem.optimum(problem.features @ theta)[2])
    )


def test_theorem_3_more_data_lose_less_likelihood(random_mdp):
    """Transitions of the expert; theta maximises the surrogate, the best one the likelihood."""
    sizes = (200, 800, 3200, 12_800)
    lost = np.zeros((8, len(sizes)))
    for seed in range(8):
        problem = mild(random_mdp(seed))
        visits = problem.visits(problem.expert)
        family = LinearReward(problem.mdp, problem.features)
        best = both(problem, EstimatedModel(problem.mdp, visits, 0 * visits), problem.theta)[0]
        for column, size in enumerate(sizes):
            rng = np.random.default_rng([seed, size])
            model = estimate_model(draw_transitions(problem.mdp, visits, size, rng), problem.mdp)
            theta = maxent_irl(model.mdp, family, visits, tolerance=1e-6).theta
            likelihood, _, values = both(problem, model, theta)
            there = both(problem, model, problem.theta)[2]
            bound = likelihood_gap_bound(problem.mdp, model, visits, values)
            bound += likelihood_gap_bound(problem.mdp, model, visits, there)
            lost[seed, column] = best - likelihood
            assert -1e-8 <= lost[seed, column] <= bound
    mean = lost.mean(axis=0)
    # eps ~ n^-1/2 is what the theorem promises: four times the data halve it, at the least.
    for before, after in pairwise(mean):
        assert after < 0.5 * before, mean
    assert mean[0] > 1e-2


def test_theorem_5_the_surrogate_is_concave_in_a_linear_reward(random_mdp):
    problem = random_mdp(5)
    model = a_model(problem, 50)
    rng = np.random.default_rng(0)
    bends = []
    for _ in range(20):
        one, two = rng.normal(size=(2, 5)) * 3
        ends = both(problem, model, one)[1] + both(problem, model, two)[1]
        bends.append(2 * both(problem, model, (one + two) / 2)[1] - ends)
    assert min(bends) > 0


def test_with_the_true_model_it_is_online_ml_irl(random_mdp):
    problem = random_mdp(6)
    visits = problem.visits(problem.expert)
    family = LinearReward(problem.mdp, problem.features)
    online = ml_irl(problem.mdp, family, visits, rounds=50)
    model = EstimatedModel(problem.mdp, np.full((6, 3), np.inf), np.zeros((6, 3)))
    offline = offline_ml_irl(model, family, visits, rounds=50)
    np.testing.assert_array_equal(online.reward, offline.reward)
    np.testing.assert_array_equal(online.policy, offline.policy)
    # And with a million transitions it is nearly that, with sixty it is not.
    distances = []
    for count in (60, 10**6):
        near = offline_ml_irl(a_model(problem, count, penalty=0), family, visits, rounds=50)
        distances.append(np.abs(log_policy(near.policy) - log_policy(online.policy)).max())
    assert distances[1] < 0.05 < 0.5 < distances[0]


def test_theorem_4_alg_3_finds_the_surrogate_s_maximum(random_mdp):
    problem = random_mdp(7)
    model = a_model(problem, 3000)
    family = LinearReward(problem.mdp, problem.features)
    visits = problem.visits(problem.expert)
    result = offline_ml_irl(model, family, visits, rounds=3000, alpha0=3.0, evaluate_every=100)
    squares = [row["eval/gradient_norm_squared"] for row in result.history[::100]]
    assert squares[-1] < 1e-6 * squares[0]
    likelihood, surrogate, _ = both(problem, model, result.reward)
    assert result.history[2900]["eval/likelihood"] == pytest.approx(likelihood, abs=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert both(problem, model, result.reward + 0.3 * rng.normal(size=5))[1] < surrogate


def test_the_surrogate_sees_shaping_that_the_policy_does_not(random_mdp):
    """r + gamma P_hat Phi - Phi makes the same policy, hence the same L. But d_E is no occupancy of
    the model, and L_hat changes by <its flow residual, Phi>: with a reward that can take any shape
    it has no maximum. So an offline reward wants a bound, or a penalty on its size."""
    problem = random_mdp(9)
    model = a_model(problem, 300, penalty=0)
    visits = problem.visits(problem.expert)
    inside = in_the_model(problem, model)
    potential = np.random.default_rng(0).normal(size=6)
    inflow = problem.initial + 0.9 * np.einsum("sa,sat->t", visits, inside.kernel)
    slope = (inflow - visits.sum(1)) @ potential
    reward = problem.features @ problem.theta
    shaping = 0.9 * inside.kernel @ potential - potential[:, None]
    found = []
    for scale in (0.0, 1.0, 10.0):
        shaped = reward + scale * shaping
        _, values, log_pi = inside.optimum(shaped)
        found.append((visits * log_pi).sum())
        surrogate = surrogate_likelihood(model.mdp, visits, shaped, values)
        unshaped = surrogate_likelihood(model.mdp, visits, reward, inside.optimum(reward)[1])
        assert surrogate - unshaped == pytest.approx(scale * slope, abs=1e-9)
    assert np.ptp(found) < 1e-9 and abs(slope) > 1e-2


def test_the_penalty_keeps_the_policy_where_the_data_are(random_mdp):
    """Of each state one action was never tried; its made-up successor is the state itself."""
    problem = random_mdp(8)
    tried = np.ones((6, 3))
    tried[:, 2] = 0
    drawn = draw_transitions(problem.mdp, tried, 6000, np.random.default_rng(0))
    family = LinearReward(problem.mdp, problem.features)
    visits = problem.visits(problem.expert)
    untried = []
    for coefficient in (0.0, 1.0, 4.0):
        model = estimate_model(drawn, problem.mdp, penalty_coef=coefficient)
        assert (model.counts[:, 2] == 0).all() and (model.penalty[:, 2] == -coefficient).all()
        # A reward that is fixed, so that only the penalty moves the policy.
        reward = family.values(problem.theta) + model.penalty
        policy = np.exp(in_the_model(problem, model).optimum(reward)[2])
        untried.append(policy[:, 2].mean())
    assert untried[0] > 2 * untried[1] > 4 * untried[2]
    assert visits[:, 2].sum() > 0
