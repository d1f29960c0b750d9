"""BiCQL-ML's structure on small MDPs: what moves it, what it finds, and what keeps it from that.

A(Q) = Q - gamma P LSE Q inverts the soft Bellman operator, so (Q, A(Q)) has no Bellman error;
alpha = 0 is stationary everywhere;
with D = D_E any alpha > 0 finds the expert;
with others in D the policy is that of the mixture, and the weight w_E undoes it.
"""

from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory
from irl_align.tabular.bicql import BiCQLSettings, Levels, bicql, kl_table
from irl_align.tabular.rewards import LinearReward, one_hot


@pytest.fixture
def case(random_mdp):
    problem = random_mdp(0)
    return problem, problem.visits(problem.expert)


def stranger(problem, seed=5):
    """The occupancy of a policy that has nothing to do with the expert's."""
    return problem.visits(np.random.default_rng(seed).dirichlet(np.ones(3), size=6))


def plain_kl(problem, visits, q):
    """By loops."""
    total, mass = 0.0, 0.0
    for s in range(6):
        normaliser = sum(np.exp(x) for x in q[s])
        for a in range(3):
            p = problem.expert[s, a]
            total += visits[s].sum() * p * np.log(p / (np.exp(q[s, a]) / normaliser))
        mass += visits[s].sum()
    return total / mass


def test_the_advantage_inverts_the_soft_bellman_operator(case, random_mdp):
    problem, visits = case
    levels = Levels(problem.mdp, visits, visits, BiCQLSettings())
    q, _, _ = problem.optimum(problem.features @ problem.theta)
    np.testing.assert_allclose(levels.advantage(q, q), problem.features @ problem.theta, atol=1e-11)
    anything = 10 * np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_allclose(
        levels.target(levels.advantage(anything, anything), anything), anything, atol=1e-12
    )


@pytest.mark.parametrize("states", ["mixture", "data"])
@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
def test_the_lower_gradient_by_finite_differences(case, states, weight):
    problem, visits = case
    settings = BiCQLSettings(alpha=1.7, expert_weight=weight, states=states)
    levels = Levels(problem.mdp, stranger(problem), visits, settings)
    rng = np.random.default_rng(0)
    q, target = rng.normal(size=(2, 6, 3))
    found, step = levels.lower_gradient(q, target), 1e-6
    for s in range(6):
        for a in range(3):
            nudge = np.zeros((6, 3))
            nudge[s, a] = step
            slope = (levels.lower(q + nudge, target) - levels.lower(q - nudge, target)) / (2 * step)
            assert found[s, a] == pytest.approx(slope, abs=1e-8)


def test_over_the_mixture_s_states_the_term_is_cloning(case):
    """E_m[LSE Q - Q] = E_m[-log pi_Q], untouched by the level of a row; over D's it is not."""
    problem, visits = case
    rng = np.random.default_rng(1)
    q, level = rng.normal(size=(6, 3)), rng.normal(size=(6, 1))
    for states in ("mixture", "data"):
        settings = BiCQLSettings(expert_weight=0.7, states=states)
        levels = Levels(problem.mdp, stranger(problem), visits, settings)
        moved = levels.conservative(q + level) - levels.conservative(q)
        if states == "mixture":
            logs = q - np.log(np.exp(q).sum(1, keepdims=True))
            assert levels.conservative(q) == pytest.approx(-(levels.mixture * logs).sum())
            assert moved == pytest.approx(0, abs=1e-12)
        else:
            assert abs(moved) > 1e-2


@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_alpha_0_is_stationary_everywhere(case, tau):
    problem, visits = case
    start = np.random.default_rng(2).normal(size=(6, 3))
    family = one_hot(problem.mdp)
    for alpha in (0.0, 0.1):
        settings = BiCQLSettings(alpha=alpha, tau=tau)
        result = bicql(problem.mdp, family, visits, visits, rounds=30, settings=settings, q=start)
        moved = np.abs(result.policy[0] - start).max()
        if alpha == 0:
            assert moved < 1e-10
            advantage = Levels(problem.mdp, visits, visits, settings).advantage(start, start)
            np.testing.assert_allclose(result.reward.reshape(6, 3), advantage, atol=1e-9)
        else:
            assert moved > 0.1


@pytest.mark.parametrize(
    ("alpha", "rate", "rounds"), [(0.1, 4.5, 700), (1, 4.0, 150), (10, 0.6, 150)]
)
def test_with_the_expert_s_data_alone_it_finds_the_expert(case, alpha, rate, rounds):
    problem, visits = case
    start = np.random.default_rng(3).normal(size=(6, 3))
    settings = BiCQLSettings(alpha=alpha, q_rate=rate, q_steps=20)
    result = bicql(
        problem.mdp, one_hot(problem.mdp), visits, visits, rounds=rounds, settings=settings, q=start
    )
    after = plain_kl(problem, visits, result.policy[0])
    assert result.history[-1]["eval/expert_kl"] == pytest.approx(after, abs=1e-12)
    assert plain_kl(problem, visits, start) > 0.1 and after < 1e-9
    # The reward that it ends with makes that policy.
    assert result.history[-1]["eval/bellman_error"] < 1e-6
    log_pi = problem.optimum(result.reward.reshape(6, 3))[2]
    np.testing.assert_allclose(np.exp(log_pi), problem.expert, atol=1e-4)


def test_others_in_the_data_are_imitated_unless_weighed_down(case):
    """30% of D is the expert's: the policy is that of m = w_E D_E + (1 - w_E) D, whatever alpha."""
    problem, visits = case
    other = stranger(problem)
    expert, rest = visits / visits.sum(), other / other.sum()
    data = 0.3 * expert + 0.7 * rest
    weights = (0.0, 0.5, 0.9, 1.0)
    table = kl_table(
        problem.mdp, one_hot(problem.mdp), visits, other, share=0.3, alphas=(0.5, 3.0),
        expert_weights=weights, rounds=100, q_rate=4.0, q_steps=20,
    )  # fmt: skip
    expected = []
    for weight in weights:
        both = weight * expert + (1 - weight) * data
        shown = np.log(both / both.sum(1, keepdims=True))
        expected.append((expert * (np.log(problem.expert) - shown)).sum())
    assert expected[0] > 0.3 and expected[2] > 0.01
    np.testing.assert_allclose(table, [expected, expected], atol=1e-3)
    assert (np.diff(table) < -1e-2).all()


def test_over_the_data_s_states_the_level_of_q_runs_away(case):
    """The same loop, of which only the states of the log-sum-exp differ."""
    problem, visits = case
    largest = {}
    for states in ("mixture", "data"):
        for rounds in (50, 100):
            settings = BiCQLSettings(states=states, q_rate=4.0, q_steps=20)
            result = bicql(
                problem.mdp, one_hot(problem.mdp), stranger(problem), visits,
                rounds=rounds, settings=settings,
            )  # fmt: skip
            largest[states, rounds] = result.history[-1]["eval/q_largest"]
    assert largest["mixture", 100] < 1.1 * largest["mixture", 50]
    assert largest["data", 100] > 1.6 * largest["data", 50] > 3 * largest["mixture", 50]


def test_a_reward_with_features_is_fitted_by_steps_as_by_least_squares(case):
    problem, visits = case
    family = LinearReward(problem.mdp, problem.features)
    shared = {"alpha": 0.3, "q_rate": 4.0, "q_steps": 20, "l2": 1e-3}
    exact, stepped = (
        bicql(problem.mdp, family, stranger(problem), visits, rounds=100, settings=settings)
        for settings in (
            BiCQLSettings(**shared),
            BiCQLSettings(**shared, reward_steps=20, reward_rate=0.3),
        )
    )
    assert exact.history[-1]["eval/expert_kl"] < 0.5 * plain_kl(problem, visits, np.zeros((6, 3)))
    np.testing.assert_allclose(stepped.reward, exact.reward, atol=0.1)
    assert np.abs(exact.reward).max() > 0.5


def test_a_killed_run_goes_on_as_if_nothing_had_been(case, tmp_path):
    problem, visits = case
    family, settings = one_hot(problem.mdp), BiCQLSettings(tau=0.1, q_steps=3)
    whole = bicql(problem.mdp, family, visits, visits, rounds=6, settings=settings)
    for rounds in (3, 6):
        with RunDirectory(tmp_path / "run").open({"rounds": rounds}) as run:
            again = bicql(
                problem.mdp, family, visits, visits, rounds=rounds, settings=settings, run=run
            )
    np.testing.assert_array_equal(again.policy, whole.policy)
    np.testing.assert_array_equal(again.reward, whole.reward)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alpha": -1.0}, "alpha >= 0"),
        ({"expert_weight": 1.5}, r"expert_weight in \[0, 1\]"),
        ({"states": "all"}, "mixture or data"),
        ({"q_steps": 0}, "1 or more"),
        ({"q_rate": 1e6}, "Q is no longer finite after round"),
    ],
)
def test_mistakes_are_named(case, change, said):
    problem, visits = case
    family = one_hot(problem.mdp)
    with np.errstate(all="ignore"), pytest.raises(UserError, match=said):
        bicql(problem.mdp, family, visits, visits, rounds=20, settings=BiCQLSettings(**change))
    with pytest.raises(UserError, match="data must have shape"):
        bicql(problem.mdp, family, visits[:3], visits, rounds=1)
    with pytest.raises(UserError, match="expert must be weights"):
        bicql(problem.mdp, family, visits, -visits, rounds=1)
