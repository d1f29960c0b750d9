"""What Theorem 2's proof rests on, at every round k of Algorithm 1:

    |Q_k - Q*_k| <= gamma |Q_{k-1} - Q*_{k-1}| + 2 L_q |theta_k - theta_{k-1}|
    |log pi_{k+1} - log pi_{theta_k}| <= 2 |Q_k - Q*_k|

with L_q = L_r / (1 - gamma). Q* comes from plain value iteration.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import irl_align.tabular.ml_irl as algorithm
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.rewards import LinearReward
from irl_align.tabular.rollouts import horizon_for, roll_out

# Below this the errors are rounding.
FLOOR = 1e-11


@pytest.fixture
def recorded(random_mdp, monkeypatch):
    """Runs Alg. 1; returns the problem and (|Q_k - Q*_k|, log-policy gap, theta_k) for every k."""

    def run(seed, alpha0, rounds=40, sampled=False, q=None):
        problem = random_mdp(seed)
        pairs = []

        class Recorder:
            def __init__(self, *_, **__):
                pass

            def evaluate(self, policy, reward, ctx):
                pairs.append((policy.copy(), reward.copy()))
                return {}

        monkeypatch.setattr(algorithm, "Diagnostics", Recorder)
        mdp, family = problem.mdp, LinearReward(problem.mdp, problem.features)
        demonstrations = problem.visits(problem.expert)
        if sampled:
            steps = horizon_for(problem.gamma, 1e-2)
            demonstrations = roll_out(mdp, problem.expert, 50, steps, np.random.default_rng(0))
        ml_irl(
            mdp, family, demonstrations, rounds=rounds, alpha0=alpha0, seed=seed,
            episodes=1 if sampled else None, q=q,
        )  # fmt: skip
        rows = []
        for q_k, theta in pairs:
            best_q, _, best_log = problem.optimum(problem.features @ theta)
            log_pi = q_k - np.logaddexp.reduce(q_k, axis=1)[:, None]
            gap = np.abs(log_pi - best_log).max()
            rows.append((np.abs(q_k - best_q).max(), gap, theta))
        assert len(rows) == rounds
        return problem, rows

    return run


def violations(problem, rows):
    reach = np.linalg.norm(problem.features, axis=2).max() / (1 - problem.gamma)  # L_q
    return sum(
        now > problem.gamma * before + 2 * reach * np.linalg.norm(theta - previous) + FLOOR
        for (before, _, previous), (now, _, theta) in pairwise(rows)
    )


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("alpha0", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_at_every_round(recorded, seed, alpha0, sampled):
    far = 20 * np.random.default_rng(seed).normal(size=(6, 3))
    problem, rows = recorded(seed, alpha0, sampled=sampled, q=far)
    assert violations(problem, rows) == 0
    for error, gap, _ in rows:
        assert gap <= 2 * error + FLOOR
    # the error is not zero throughout, or nothing was tested
    assert sum(error > 1e3 * FLOOR for error, _, _ in rows) >= 3


def test_a_policy_that_does_not_follow_breaks_it(recorded, monkeypatch):
    """The inequality can fail: leave out the improvement and the error no longer contracts."""
    monkeypatch.setattr(algorithm.SoftImprovement, "improve", lambda self, policy, *_: (policy, {}))
    problem, rows = recorded(0, alpha0=0.01)
    assert violations(problem, rows) > 30


def test_so_does_a_wrong_discount(recorded, monkeypatch):
    real = algorithm.soft_policy_step

    def undiscounted(mdp, reward, q):
        return real(type(mdp)(mdp.kernel, mdp.initial, 0.85), reward, q)

    monkeypatch.setattr(algorithm, "soft_policy_step", undiscounted)
    problem, rows = recorded(0, alpha0=0.001)
    assert violations(problem, rows) > 30
