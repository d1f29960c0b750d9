"""Theorem 2 at sigma = 1/2: both running averages of Algorithm 1 are O(K^-1/2).

    (1/K) sum_k |log pi_{k+1} - log pi_{theta_k}|_inf <= C K^-1/2
    (1/K) sum_k |grad L(theta_k)|^2                   <= C K^-1/2

C is what the smallest K shows, with a slack of a quarter. The policy's average falls much faster
than that (soft policy iteration is Newton's method), so no slope is asserted.
"""

from __future__ import annotations

import numpy as np
import pytest

import irl_align.tabular.ml_irl as algorithm
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.rewards import LinearReward
from irl_align.tabular.rollouts import horizon_for, roll_out

ROUNDS = (64, 256, 1024, 4096)
SLACK = 1.25
KEYS = ("eval/policy_gap", "eval/gradient_norm_squared")


def averages(mdp, family, demonstrations, rounds, **options):
    history = ml_irl(mdp, family, demonstrations, rounds=rounds, **options).history
    return np.array([np.mean([row[key] for row in history]) for key in KEYS])


def within_rate(table):
    """For each average: does it stay below C K^-1/2 at every K? table [len(ROUNDS), 2]."""
    scaled = table * np.sqrt(np.array(ROUNDS[: len(table)]))[:, None]
    return (scaled[1:] <= SLACK * scaled[0]).all(0)


@pytest.mark.parametrize("seed", [0, 1])
def test_exact_gradients(random_mdp, seed):
    problem = random_mdp(seed)
    mdp, family = problem.mdp, LinearReward(problem.mdp, problem.features)
    visits = problem.visits(problem.expert)
    table = np.array([averages(mdp, family, visits, k, alpha0=0.3) for k in ROUNDS])
    assert within_rate(table).all(), table
    # four times the rounds halve the gradient's average, here almost exactly
    assert (table[1:, 1] > 0.3 * table[:-1, 1]).all()


def test_sampled_gradients(random_mdp):
    """One demonstration and one trajectory a round, as in the paper's Alg. 1."""
    problem = random_mdp(0, gamma=0.8)
    mdp, family = problem.mdp, LinearReward(problem.mdp, problem.features)
    steps = horizon_for(0.8, 1e-2)
    demonstrations = roll_out(mdp, problem.expert, 500, steps, np.random.default_rng(0))
    table = np.array(
        [averages(mdp, family, demonstrations, k, alpha0=0.3, episodes=1, seed=1) for k in ROUNDS]
    )
    assert within_rate(table).all(), table


@pytest.mark.parametrize("fault", ["sign", "discount", "policy"])
def test_a_fault_breaks_the_rate(random_mdp, monkeypatch, fault):
    """The assertion can fail: a flipped sign, another discount on the agent's side, no policy."""
    problem = random_mdp(0)
    mdp, family = problem.mdp, LinearReward(problem.mdp, problem.features)
    if fault == "sign":
        fit = algorithm.LikelihoodAscent.fit

        def backwards(self, reward, samples, ctx):
            theta, metrics = fit(self, reward, samples, ctx)
            return 2 * reward - theta, metrics

        monkeypatch.setattr(algorithm.LikelihoodAscent, "fit", backwards)
    elif fault == "discount":
        sample = algorithm.ExactOccupancy.sample

        def otherwise_discounted(self, policy, ctx):
            other = type(mdp)(mdp.kernel, mdp.initial, 0.95)
            return sample(algorithm.ExactOccupancy(other), policy, ctx)

        monkeypatch.setattr(algorithm.ExactOccupancy, "sample", otherwise_discounted)
    else:
        monkeypatch.setattr(
            algorithm.SoftImprovement, "improve", lambda self, policy, *_: (policy, {})
        )
    visits = problem.visits(problem.expert)
    table = np.array([averages(mdp, family, visits, k, alpha0=0.3) for k in ROUNDS[:3]])
    assert not within_rate(table).all(), table


def test_the_constants_of_the_theorem(random_mdp):
    """|grad L| <= 2 L_q, and Q* moves by at most L_q |d theta|: what C is made of."""
    problem = random_mdp(2)
    family = LinearReward(problem.mdp, problem.features)
    reach = family.lipschitz / (1 - problem.gamma)  # L_q
    visits = problem.visits(problem.expert)
    rng = np.random.default_rng(0)
    previous = None
    for scale in (0.0, 0.1, 1.0, 10.0, 100.0):
        theta = scale * rng.normal(size=5)
        q, _, log_pi = problem.optimum(family.values(theta))
        gradient = family.gradient(theta, visits - problem.visits(np.exp(log_pi)))
        assert np.linalg.norm(gradient) <= 2 * reach
        if previous is not None:
            moved = np.abs(q - previous[0]).max()
            assert moved <= reach * np.linalg.norm(theta - previous[1]) * (1 + 1e-9)
            # and the bound has the right size: the discount's factor is needed
            assert moved > 0.5 * family.lipschitz * np.linalg.norm(theta - previous[1])
        previous = q, theta
