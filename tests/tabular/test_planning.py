"""Soft planning against loops, closed forms and itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.tabular.garnet import garnet
from irl_align.tabular.gridworld import gridworld
from irl_align.tabular.kernels import SparseKernel
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.planning import (
    log_policy,
    log_sum_exp,
    soft_policy_evaluation,
    soft_policy_iteration,
    soft_value_iteration,
)

SOLVERS = [soft_value_iteration, soft_policy_iteration]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["dense", "direct", "iterative"])
@pytest.mark.parametrize("gamma", [0.5, 0.95])
def test_both_solvers_are_the_plain_loops(solver, kind, gamma, tables, plain_optimum):
    world = tables(0, zeros=True)
    kernel = world.kernel
    if kind != "dense":
        kernel = SparseKernel(csr_array(kernel.reshape(18, 6)), method=kind)
    mdp = make_mdp(kernel, gamma, world.initial)
    q, values = plain_optimum(world.kernel, world.reward, gamma)
    found = solver(mdp, world.reward, tolerance=1e-12)
    np.testing.assert_allclose(found.q, q, atol=1e-10)
    np.testing.assert_allclose(found.values, values, atol=1e-10)
    np.testing.assert_allclose(found.policy.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.log(found.policy), found.log_policy, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_error_bound_is_kept(solver, tables, plain_optimum):
    """Also when stopped early, which is when a bound is of use."""
    world = tables(1)
    mdp = make_mdp(world.kernel, 0.9, world.initial)
    q, values = plain_optimum(world.kernel, world.reward, 0.9)
    for tolerance in (1.0, 1e-1, 1e-3, 1e-6):
        found = solver(mdp, world.reward, tolerance=tolerance)
        assert np.abs(found.values - values).max() <= found.error_bound + 1e-12
        assert np.abs(found.q - q).max() <= found.error_bound + 1e-12
        assert found.error_bound <= tolerance * max(1, np.abs(values).max() * 1.5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constant_reward_has_a_closed_form(solver):
    """V = (c + log A) / (1 - gamma): the whole of it is the bounds' middle, found at once."""
    mdp = garnet(40, 4, 3, gamma=0.99, seed=0)
    found = solver(mdp, np.full(mdp.shape, -2.0))
    np.testing.assert_allclose(found.values, (np.log(4) - 2) / 0.01, rtol=1e-12)
    assert found.iterations == 1


def test_one_action_is_a_markov_chain(tables):
    world = tables(2, actions=1)
    mdp = make_mdp(world.kernel, 0.8)
    expected = np.linalg.solve(np.eye(6) - 0.8 * world.kernel[:, 0], world.reward[:, 0])
    for solver in SOLVERS:
        np.testing.assert_allclose(solver(mdp, world.reward).values, expected, rtol=1e-9)


def test_evaluation_satisfies_its_equation(tables):
    world = tables(3)
    mdp = make_mdp(world.kernel, 0.9)
    q, values = soft_policy_evaluation(mdp, world.reward, world.policy)
    pi = world.policy
    expected = (pi * (q - np.log(pi))).sum(1)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(q, world.reward + 0.9 * world.kernel @ values, rtol=1e-12)


def test_evaluation_of_a_deterministic_policy_has_no_entropy(tables):
    world = tables(4)
    mdp = make_mdp(world.kernel, 0.9)
    chosen = np.array([0, 2, 1, 1, 0, 2])
    policy, rows = np.eye(3)[chosen], np.arange(6)
    _, values = soft_policy_evaluation(mdp, world.reward, policy)
    expected = np.linalg.solve(
        np.eye(6) - 0.9 * world.kernel[rows, chosen], world.reward[rows, chosen]
    )
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_evaluating_the_optimal_policy_returns_the_optimum(tables):
    world = tables(5)
    mdp = make_mdp(world.kernel, 0.9)
    best = soft_policy_iteration(mdp, world.reward, tolerance=1e-13)
    q, values = soft_policy_evaluation(mdp, world.reward, best.policy)
    np.testing.assert_allclose(q, best.q, rtol=1e-11)
    np.testing.assert_allclose(values, best.values, rtol=1e-11)


def test_log_sum_exp_does_not_overflow():
    q = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(log_sum_exp(q), [1e4 + np.log(2), -1e4 + np.log(3)], rtol=1e-15)
    np.testing.assert_allclose(np.exp(log_policy(q)), [[0.5, 0.5, 0], [1 / 3] * 3], rtol=1e-10)
    np.testing.assert_array_equal(q[0], [1e4, 1e4, -1e4])  # left as it was


def test_large_rewards_and_warm_starts(tables):
    world = tables(6)
    mdp = make_mdp(world.kernel, 0.9)
    cold = soft_value_iteration(mdp, 1e3 * world.reward)
    warm = soft_value_iteration(mdp, 1e3 * world.reward, values=cold.values)
    newton = soft_policy_iteration(mdp, 1e3 * world.reward, q=cold.q)
    assert warm.iterations == 1 and newton.iterations <= 2
    np.testing.assert_allclose(newton.values, cold.values, rtol=1e-9)


def test_solvers_agree_on_ten_thousand_states():
    """The sparse iterative path at a size where nothing could be dense."""
    world = gridworld(100, 100, gamma=0.9, walls=[(50, c) for c in range(90)])
    reward = np.zeros(world.mdp.shape)
    reward[world.state(99, 0)] = 5.0
    vi = soft_value_iteration(world.mdp, reward)
    pi = soft_policy_iteration(world.mdp, reward)
    assert np.abs(vi.q - pi.q).max() <= vi.error_bound + pi.error_bound + 1e-11
    assert vi.values.argmax() == world.state(99, 0)


class TestErrors:
    @pytest.fixture
    def mdp(self, tables):
        return make_mdp(tables(0).kernel, 0.9)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_rewards(self, solver, mdp):
        with pytest.raises(UserError, match="the reward must have shape"):
            solver(mdp, np.zeros((3, 6)))
        bad = np.zeros(mdp.shape)
        bad[2, 1] = np.inf
        with pytest.raises(UserError, match=r"the reward\[2, 1\] is inf"):
            solver(mdp, bad)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_too_few_iterations_say_how_far(self, solver, mdp, tables):
        with pytest.raises(UserError, match=r"within .* after 1 iterations; raise max_iterations"):
            solver(mdp, tables(0).reward, max_iterations=1)

    def test_policies(self, mdp):
        with pytest.raises(UserError, match="state 0 sum to 3"):
            soft_policy_evaluation(mdp, np.zeros(mdp.shape), np.ones(mdp.shape))
        with pytest.raises(UserError, match="values must have shape"):
            soft_value_iteration(mdp, np.zeros(mdp.shape), values=np.zeros(5))
        with pytest.raises(UserError, match="q must have shape"):
            soft_policy_iteration(mdp, np.zeros(mdp.shape), q=np.zeros(5))
