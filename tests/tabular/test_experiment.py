"""From a configuration to a table: the numbers are checked against what they claim to be."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.config import (
    DemonstrationConfig,
    ProblemConfig,
    RewardConfig,
    TabularConfig,
)
from irl_align.tabular.experiment import (
    demonstrate,
    from_their_starts,
    learn,
    make_family,
    make_problem,
    measure,
    report,
)
from irl_align.tabular.occupancy import occupancy
from irl_align.tabular.planning import soft_policy_iteration

GRID = ProblemConfig(rows=4, columns=3, bumps=2, gamma=0.8)
GARNET = ProblemConfig(kind="garnet", states=8, actions=3, branching=3, features=4, gamma=0.8)
EXACT = DemonstrationConfig(count=None)


def config(path, **changes) -> TabularConfig:
    base = {"rounds": 300, "alpha0": 5.0, "problem": GARNET, "demonstrations": EXACT}
    return TabularConfig(run_dir=str(path), evaluate_every=100, save_every=300, **base | changes)


@pytest.mark.parametrize("problem", [GRID, GARNET], ids=["gridworld", "garnet"])
@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("linear", {}),
        ("tabular", {"alpha0": 20.0}),
        ("neural", {"optimiser": "adam", "learning_rate": 0.01}),
    ],
)
def test_exact_gradients_find_the_policy_and_the_reward(tmp_path, problem, family, more):
    reward = RewardConfig(family=family, hidden=[16])
    found = learn(config(tmp_path, problem=problem, reward=reward, **more))
    start, learned = found["start"], found["learned"]
    assert start["policy_regret"] > 0.3 and start["likelihood_gap"] > 0.3
    assert learned["likelihood_gap"] < 0.01 * start["likelihood_gap"]
    assert learned["policy_regret"] < 0.01 * start["policy_regret"]
    assert learned["levelled_distance"] < 0.1 * start["levelled_distance"]
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert "learned" in report(found) and "300 rounds" in report(found)


def test_the_gap_is_what_the_experts_likelihood_loses(tables):
    """Against the value identity: E_E[log pi] from rewards and values, not from the policies."""
    problem = make_problem(GARNET)
    family = make_family(RewardConfig(family="tabular", inputs="state_action"), problem)
    theta = np.random.default_rng(0).normal(size=family.size)
    found = measure(problem, family, theta, problem.mdp, problem.visits)

    def likelihood(reward):
        values = soft_policy_iteration(problem.mdp, reward, tolerance=1e-13).values
        return (problem.visits * reward).sum() - problem.mdp.initial @ values

    gap = likelihood(problem.reward) - likelihood(family.values(theta))
    assert found["likelihood_gap"] == pytest.approx(gap, rel=1e-8)
    truth = measure(problem, family, problem.reward.ravel(), problem.mdp, problem.visits)
    assert truth == pytest.approx(dict.fromkeys(truth, 0.0), abs=1e-6)


def test_the_hidden_reward_can_look_at_actions():
    for shape, plain in ((GARNET, 4), (GRID, 4)):
        problem = make_problem(ProblemConfig(**{**vars(shape), "hidden_reward": "state_action"}))
        assert np.ptp(problem.reward, axis=1).max() > 0.1
        width = plain * (problem.mdp.actions if shape is GRID else 1)
        assert problem.features("state_action").shape == (*problem.mdp.shape, width)
        blind = make_problem(shape)
        assert np.ptp(blind.reward, axis=1).max() == 0
        assert blind.features("state").shape == (blind.mdp.states, plain)


def test_episodes_start_where_demonstrations_did():
    problem = make_problem(GARNET)
    shown = demonstrate(DemonstrationConfig(count=5), problem, seed=0)
    assert shown.states.shape == (5, 31)  # 0.8^31 < 0.001
    mdp = from_their_starts(problem.mdp, shown)
    starts, counts = np.unique(shown.states[:, 0], return_counts=True)
    np.testing.assert_allclose(mdp.initial[starts], counts / 5)
    assert mdp.initial.sum() == 1
    assert from_their_starts(problem.mdp, problem.visits) is problem.mdp
    # Of the gradient at the expert's own reward, which is noise, less is left.
    expert = np.exp(problem.log_expert)

    def noise(world, seed):
        drawn = demonstrate(DemonstrationConfig(count=200), problem, seed)
        known = from_their_starts(problem.mdp, drawn) if world is None else world
        return (drawn.occupancy(problem.mdp) - occupancy(known, expert)).sum(1)

    conditioned = np.mean([noise(None, seed) ** 2 for seed in range(20)])
    assert conditioned < 0.8 * np.mean([noise(problem.mdp, seed) ** 2 for seed in range(20)])


def test_sampled_gradients_count_their_steps(tmp_path):
    demonstrations = DemonstrationConfig(count=40, horizon=12)
    sampled = config(tmp_path, rounds=3, episodes=2, demonstrations=demonstrations)
    steps = learn(sampled)["steps"]
    assert steps == {"rounds": 3, "demonstrated": 480, "sampled": 72}


def test_a_table_that_does_not_fit_is_refused(tmp_path):
    huge = ProblemConfig(rows=1000, columns=1000, bumps=8)
    reward = RewardConfig(inputs="state_action")
    problem = make_problem(ProblemConfig(rows=3, columns=3))
    object.__setattr__(problem, "config", huge)
    object.__setattr__(problem, "state_features", np.broadcast_to(0.0, (1, 10**8)))
    with pytest.raises(UserError, match=r"lower problem\.bumps"):
        make_family(reward, problem)
