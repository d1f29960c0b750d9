"""Whole runs, tiny: resumed after a kill in any phase, blind to rewards, and what each key does."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from irl_align.control import bicql_ml as module
from irl_align.control.bicql.acting import load_q_policy
from irl_align.control.bicql.config import (
    AdvantageConfig,
    BiCQLConfig,
    ConservativeConfig,
    CriticConfig,
    MonitorConfig,
    ProposalConfig,
    SegmentConfig,
)
from irl_align.control.bicql.judging import Judged
from irl_align.control.bicql.learner import POLICY
from irl_align.control.bicql.regression import AdvantageRegression, SoftAdvantages
from irl_align.control.bicql.segments import save_segments
from irl_align.control.bicql_ml import bicql
from irl_align.control.config import DemonstrationConfig, EnvironmentConfig, EvaluationConfig
from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.control.transfer import frozen_reward, reward_file
from irl_align.control.transitions import Transitions
from irl_align.control.true_rewards import TrueRewards
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")


def tiny(path: str, run_dir="unused", **changes) -> BiCQLConfig:
    sections = {
        "environment": EnvironmentConfig(name="Pendulum", max_episode_steps=12),
        "demonstrations": DemonstrationConfig(path=path),
        "critic": CriticConfig(hidden=[8], batch_size=6, steps=3, compile="never"),
        "proposals": ProposalConfig(uniform=3, cloned=2, near=2, clone_hidden=[4], clone_steps=5),
        "reward": AdvantageConfig(hidden=[8], batch_size=5, steps=2, learning_rate=1e-3),
        "evaluation": EvaluationConfig(every=2, episodes=2),
        "rounds": 4,
        "save_every": 1,
    }
    return BiCQLConfig(run_dir=str(run_dir), **{**sections, **changes})


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> str:
    """Transitions of somebody else: 40 steps, with true rewards beside them."""
    rng = np.random.default_rng(0)
    found = Trajectories(
        Trajectory(
            rng.normal(size=(11, 3)).astype(np.float32),
            rng.uniform(-2, 2, size=(10, 1)).astype(np.float32),
            False,
            True,
        )
        for _ in range(4)
    )
    path = tmp_path_factory.mktemp("others") / "others.npz"
    save_demonstrations(path, found, TrueRewards([np.arange(10.0)] * 4))
    return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> str:
    rng = np.random.default_rng(1)
    arrays = {}
    for side in ("chosen", "rejected"):
        arrays[f"{side}_observations"] = rng.normal(size=(9, 4, 3))
        arrays[f"{side}_actions"] = rng.uniform(-2, 2, size=(9, 4, 1))
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    save_segments(path, arrays)
    return str(path)


@pytest.fixture(scope="module")
def everything(others, pairs):
    return {
        "dataset": DemonstrationConfig(path=others),
        "conservative": ConservativeConfig(target_gap=0.5, states="data", expert_weight=0.5),
        "preferences": SegmentConfig(path=pairs, batch_size=3),
        "monitor": MonitorConfig(every=1, probes=10),
    }


@pytest.fixture(scope="module")
def whole(demonstrations, everything, outcome, tmp_path_factory):
    """Runs that nothing interrupted."""
    home = tmp_path_factory.mktemp("whole")
    return {
        "plain": outcome(bicql(tiny(demonstrations, home / "plain"))),
        "all": outcome(bicql(tiny(demonstrations, home / "all", **everything))),
    }


VERBS = {
    "sample": (SoftAdvantages, "sample"),
    "reward": (AdvantageRegression, "fit"),
    "policy": (module.ConservativeQ, "improve"),
    "evaluate": (Judged, "evaluate"),
}


@pytest.mark.parametrize("kind", ["plain", "all"])
@pytest.mark.parametrize("phase", VERBS)
def test_killed_in_any_phase_ends_as_an_unbroken_run(
    demonstrations, everything, whole, killed, outcome, tmp_path, phase, kind
):
    config = tiny(demonstrations, tmp_path / "run", **(everything if kind == "all" else {}))
    killed(lambda: bicql(config), [VERBS[phase]], round=1)
    flat, history = outcome(bicql(config))
    assert torch.equal(flat, whole[kind][0])
    assert history == whole[kind][1]


def poisoned(path: str, target, value: float) -> str:
    found = load_demonstrations(path)
    rewards = [np.full(len(t), value) for t in found.trajectories]
    save_demonstrations(target, found.trajectories, TrueRewards(rewards))
    return str(target)


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_rewards_of_the_data_change_nothing(
    demonstrations, everything, whole, outcome, tmp_path, value
):
    """Poison in both files and in the environment: the same run to the bit."""
    changes = {
        **everything,
        "dataset": DemonstrationConfig(
            path=poisoned(everything["dataset"].path, tmp_path / "data.npz", value)
        ),
        "environment": EnvironmentConfig(name="tests/Poisoned-v0"),
    }
    shown = poisoned(demonstrations, tmp_path / "shown.npz", value)
    result = bicql(tiny(shown, **changes), keep=False)
    assert torch.equal(outcome(result)[0], whole["all"][0])
    assert np.isnan(result.history[-1]["eval/return"])


def test_data_in_memory_are_data_in_a_file(demonstrations, everything, others, outcome):
    changes = {key: value for key, value in everything.items() if key != "dataset"}
    steps = load_demonstrations(others).trajectories.steps()
    data = Transitions.from_arrays(
        steps.observations, steps.actions, steps.next_observations, steps.terminated
    )
    from_file = bicql(tiny(demonstrations, **everything), keep=False)
    given = bicql(tiny(demonstrations, **changes), data=data, keep=False)
    assert torch.equal(outcome(from_file)[0], outcome(given)[0])
    alone = bicql(tiny(demonstrations, **changes), keep=False)
    assert not torch.equal(outcome(alone)[0], outcome(given)[0])
    with pytest.raises(UserError, match="leave one of them out"):
        bicql(tiny(demonstrations, **everything), data=data, keep=False)


def test_a_monitor_only_watches(demonstrations, outcome):
    seen, unseen = (
        bicql(tiny(demonstrations, monitor=MonitorConfig(every=every, probes=10)), keep=False)
        for every in (1, 0)
    )
    size = len(seen.policy.direction)
    assert size and not len(unseen.policy.direction)
    assert torch.equal(outcome(seen)[0][:-size], outcome(unseen)[0])
    for row in seen.history:
        gains = row["contraction/l_q"], row["contraction/l_ml"]
        assert min(gains) > 0 and row["contraction/product"] == pytest.approx(np.prod(gains))
    assert "contraction/l_q" not in unseen.history[0]


def test_what_a_round_reports(whole):
    for row in whole["all"][1]:
        assert {"samples/advantage", "reward/std", "reward/accuracy", "policy/gap"} <= row.keys()
        assert 0 < row["policy/effective_share"] <= 1
        assert row["steps/environment"] == 0
    assert [row["steps/updates"] for row in whole["all"][1]] == [3, 6, 9, 12]
    last = whole["plain"][1][-1]
    assert {"eval/return", "eval/demo_log_prob", "eval/q_uniform"} <= last.keys()
    assert last["policy/q_expert"] != last["policy/q_data"]  # other minibatches
    assert last["eval/q_demo"] == last["eval/q_data"]  # without data D is D_E


def test_what_a_run_leaves_can_be_used_by_strangers(demonstrations, tmp_path):
    result = bicql(tiny(demonstrations, tmp_path / "run"))
    folder = tmp_path / "run/rounds/0003/policy"
    policy = load_q_policy(folder / POLICY)
    states = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for make in (lambda acting: acting.deterministic(), lambda acting: acting.stochastic(3)):
        np.testing.assert_array_equal(make(policy)(states), make(result.policy.acting)(states))
    reward = frozen_reward(reward_file(str(tmp_path / "run"), 0), result.policy.spaces)
    actions = torch.zeros(5, 1)
    torch.testing.assert_close(
        reward.function(torch.from_numpy(states), actions),
        result.reward.net(torch.from_numpy(states), actions).detach(),
    )


def test_more_training_likes_the_demonstrations_more(demonstrations):
    critic = CriticConfig(hidden=[32], batch_size=32, steps=60, compile="never", learning_rate=3e-3)
    runs = [
        bicql(
            tiny(demonstrations, critic=critic, rounds=rounds, conservative=conservative),
            keep=False,
        ).history[-1]
        for rounds, conservative in (
            (1, ConservativeConfig()),
            (8, ConservativeConfig()),
            (8, ConservativeConfig(alpha=0.0)),
        )
    ]
    early, late, without = (row["eval/demo_log_prob"] for row in runs)
    assert late > early + 0.1 and late > without + 0.1
    assert runs[1]["eval/q_demo"] > runs[1]["eval/q_uniform"] + 0.1


def test_preferences_are_learned_beside_the_demonstrations(demonstrations, pairs):
    reward = AdvantageConfig(hidden=[32], batch_size=8, steps=40, learning_rate=3e-3)
    found = {}
    for weight in (1e-6, 10.0):
        preferences = SegmentConfig(path=pairs, weight=weight, batch_size=9)
        config = tiny(demonstrations, reward=reward, preferences=preferences)
        found[weight] = bicql(config, keep=False).history[-1]["reward/accuracy"]
    assert found[10.0] > 0.95 and found[10.0] > found[1e-6] + 0.2


@pytest.fixture
def cart(tmp_path) -> str:
    """Demonstrations of an environment whose actions are indices: left when it leans left."""
    env = gymnasium.make("CartPole-v1")
    runs = []
    for seed in range(6):
        seen, actions, ended = [env.reset(seed=seed)[0]], [], False
        while not ended and len(actions) < 100:
            actions.append([int(seen[-1][2] + 0.5 * seen[-1][3] > 0)])
            following, _, ended, _, _ = env.step(actions[-1][0])
            seen.append(following)
        runs.append(Trajectory(np.array(seen), np.array(actions), ended, not ended))
    path = tmp_path / "cart.npz"
    save_demonstrations(path, Trajectories(runs))
    return str(path)


def test_actions_that_are_indices(cart, tmp_path):
    config = tiny(
        cart,
        tmp_path / "run",
        environment=EnvironmentConfig(name="CartPole-v1", max_episode_steps=100),
        critic=CriticConfig(
            hidden=[32], batch_size=64, steps=100, compile="never", learning_rate=3e-3
        ),
        conservative=ConservativeConfig(alpha=5.0),
        rounds=6,
    )
    result = bicql(config)
    last = result.history[-1]
    # A likelihood of indices is a probability; uniform would be log 1/2 = -0.69.
    assert -0.35 < last["eval/demo_log_prob"] < 0
    assert last["eval/return"] > 80
    again = load_q_policy(tmp_path / "run/rounds/0005/policy" / POLICY)
    states = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    actions = again.deterministic()(states)
    assert actions.shape == (7, 1) and actions.dtype == np.int64
    np.testing.assert_array_equal(actions, result.policy.acting.deterministic()(states))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"demonstrations": DemonstrationConfig(path="nowhere.npz")}, r"nowhere\.npz"),
        ({"dataset": DemonstrationConfig(path="elsewhere.npz")}, r"elsewhere\.npz"),
        ({"preferences": SegmentConfig(path="unsaid.npz")}, r"unsaid\.npz: no such file"),
    ],
)
def test_bad_input_is_named_before_anything_runs(demonstrations, tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        bicql(tiny(demonstrations, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_data_of_another_environment_are_refused(demonstrations):
    wrong = Transitions.from_arrays(np.zeros((3, 5)), np.zeros((3, 1)), np.zeros((3, 5)), [0, 0, 1])
    with pytest.raises(
        UserError, match="5 observation and 1 action numbers, but Pendulum-v1 has 3"
    ):
        bicql(tiny(demonstrations), data=wrong, keep=False)


def test_a_diverging_run_says_which_key_to_lower(demonstrations):
    critic = CriticConfig(
        hidden=[8], batch_size=6, steps=50, compile="never", learning_rate=1e30, gradient_clip=None
    )
    with pytest.raises(UserError, match=r"lower critic\.learning_rate"):
        bicql(tiny(demonstrations, critic=critic), keep=False)


def test_the_level_of_a_reward_is_held_where_nothing_ends(demonstrations, monkeypatch):
    """A constant in r is then a constant in Q; where episodes end it says what ending is worth."""
    seen = []
    real = SoftAdvantages.sample

    def spy(self, policy, ctx):
        found, metrics = real(self, policy, ctx)
        seen.append((self.hold, found.advantages.mean().item(), metrics["samples/advantage"]))
        return found, metrics

    monkeypatch.setattr(SoftAdvantages, "sample", spy)
    bicql(tiny(demonstrations), keep=False)
    ends = Transitions.from_arrays(np.zeros((2, 3)), np.zeros((2, 1)), np.zeros((2, 3)), [0, 1])
    bicql(tiny(demonstrations, rounds=1), data=ends, keep=False)
    reward = AdvantageConfig(hidden=[8], batch_size=5, steps=2, hold="nothing")
    bicql(tiny(demonstrations, reward=reward, rounds=1), keep=False)
    assert [hold for hold, _, _ in seen] == ["reward"] * 4 + ["nothing"] * 2
    for hold, regressed, raw in seen:
        assert regressed == pytest.approx(0 if hold == "reward" else raw, abs=1e-5)
        assert abs(raw) > 1e-3


def test_a_held_value_stays_where_a_held_reward_lets_it_sink(demonstrations):
    """With r = 0 on average Q is -gamma / (1 - gamma) times the policy's log density (here that of
    random actions, -0.7 for uniform ones)."""
    found = {}
    for hold in ("value", "reward"):
        config = tiny(
            demonstrations,
            rounds=150,
            critic=CriticConfig(
                hidden=[32], batch_size=30, steps=20, compile="never", gamma=0.8, tau=0.05
            ),
            reward=AdvantageConfig(
                hidden=[32], batch_size=30, steps=10, learning_rate=3e-3, hold=hold
            ),
            evaluation=EvaluationConfig(every=0, episodes=1),
        )
        last = bicql(config, keep=False).history[-1]
        found[hold] = last["policy/q_expert"], -last["policy/gap"]
    value, reward = found["value"], found["reward"]
    assert reward[1] < -0.4 and reward[0] == pytest.approx(-4.0 * reward[1], rel=0.3)
    assert value[1] < -0.4 and abs(value[0]) < -0.3 * value[1]


def test_others_can_be_made_to_cost_something(demonstrations, others):
    found = []
    for elsewhere in (0.0, -2.0):
        reward = AdvantageConfig(
            hidden=[32], batch_size=40, steps=60, learning_rate=3e-3, l2=2.0, elsewhere=elsewhere
        )
        dataset = DemonstrationConfig(path=others)
        config = tiny(demonstrations, reward=reward, dataset=dataset)
        row = bicql(config, keep=False).history[-1]
        found.append((row["reward/demo_score"], row["reward/sample_score"]))
    (_, small), (shown, costly) = found
    assert abs(small) < 0.3 and costly < -0.8
    assert shown > costly + 0.2


def test_without_its_target_the_reward_goes_to_zero(demonstrations):
    """The ablation: Q is conservative under a reward that says nothing."""
    last = {}
    for target in ("soft_advantage", "zero"):
        reward = AdvantageConfig(
            hidden=[16], batch_size=40, steps=60, learning_rate=3e-3, target=target
        )
        row = bicql(tiny(demonstrations, reward=reward), keep=False).history[-1]
        last[target] = abs(row["reward/demo_score"]), abs(row["reward/sample_score"]), row
    assert max(last["zero"][:2]) < 0.02
    assert last["zero"][2]["samples/advantage"] != 0  # measured all the same
    with pytest.raises(ValueError, match="target is 'none'"):
        AdvantageConfig(target="none")
    with pytest.raises(ValueError, match="elsewhere is -1"):
        AdvantageConfig(target="zero", elsewhere=-1.0)
