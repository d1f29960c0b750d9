"""The soft Bellman operator: (T Q)(s,a) = r + gamma E[LSE_a' Q(s',a')], and soft policy iteration.

T contracts by gamma in sup norm, is monotone and shifts by gamma c; policy iteration improves every
state in every step and contracts at least as fast.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irl_align.tabular.garnet import garnet
from irl_align.tabular.planning import log_sum_exp, soft_backup, soft_policy_step

TABLES = arrays(float, (5, 3), elements=st.floats(-50, 50))


def operator(gamma):
    mdp = garnet(5, 3, 2, gamma=gamma, seed=0)
    reward = np.random.default_rng(0).normal(size=(5, 3))
    return lambda q: soft_backup(mdp, reward, log_sum_exp(q))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(a=TABLES, b=TABLES, gamma=st.sampled_from([0.3, 0.9, 0.99]))
def test_contraction(a, b, gamma):
    backup = operator(gamma)
    distance = np.abs(backup(a) - backup(b)).max()
    assert distance <= gamma * np.abs(a - b).max() + 1e-12


@settings(max_examples=60, deadline=None, derandomize=True)
@given(a=TABLES, above=arrays(float, (5, 3), elements=st.floats(0, 10)))
def test_monotone(a, above):
    backup = operator(0.9)
    assert (backup(a + above) >= backup(a) - 1e-12).all()


@pytest.mark.parametrize("gamma", [0.3, 0.9])
def test_the_factor_is_gamma_and_no_less(gamma):
    """A constant c comes back as gamma c, so no smaller factor would do."""
    backup = operator(gamma)
    q = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_allclose(backup(q + 2.0) - backup(q), gamma * 2.0, rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", [0, 1])
def test_policy_iteration_improves_and_contracts(random_mdp, gamma, seed):
    problem = random_mdp(seed, gamma=gamma)
    mdp, reward = problem.mdp, problem.features @ problem.theta
    best, _, _ = problem.optimum(reward)
    q = 10 * np.random.default_rng(seed).normal(size=(6, 3))  # a start with no merit
    steps = []
    for _ in range(8):
        q, _ = soft_policy_step(mdp, reward, q)
        steps.append(q)
    floor = 1e-10 * np.abs(best).max()
    errors = [np.abs(q - best).max() for q in steps]
    assert errors[0] > 1e3 * floor
    for before, after in pairwise(steps):
        assert (after >= before - floor).all()
    for before, after in pairwise(errors):
        assert after <= gamma * before + floor
    assert (steps[-1] <= best + floor).all()
    # near the end it is Newton's method: far faster than gamma^k
    assert errors[-1] < 1e-6 * gamma**7 * errors[0]
