from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control import ml_irl as module
from irl_align.control.assembly import world
from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    EvaluationConfig,
    MLIRLConfig,
    RewardConfig,
    RoundConfig,
    SACConfig,
)
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.ml_irl import ml_irl
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.core.config import load_config
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")

TIMES = {"time/sample", "time/reward", "time/policy", "time/evaluate"}


def tiny(path: str, run_dir="unused", **changes) -> MLIRLConfig:
    sections = {
        "environment": EnvironmentConfig(name="Pendulum", max_episode_steps=12),
        "demonstrations": DemonstrationConfig(path=path),
        "sac": SACConfig(hidden=[8], batch_size=6, capacity=200, update_every=2, compile="never"),
        "reward": RewardConfig(hidden=[8], steps=2),
        "round": RoundConfig(agent_trajectories=2),
        "evaluation": EvaluationConfig(every=2, episodes=2),
        "environment_steps": 60,
        "save_every": 1,
    }
    return MLIRLConfig(run_dir=str(run_dir), **{**sections, **changes})


def outcome(result):
    """All that a run ends with, as numbers."""
    learner, reward = result.policy, result.reward
    tensors = [
        *learner.agent.actor.parameters(),
        *learner.agent.parts.critic.parameters(),
        *learner.agent.parts.target.parameters(),
        learner.agent.parts.log_alpha,
        *reward.net.parameters(),
        learner.buffer.recent(10**6).observations,
    ]
    if learner.average is not None:
        tensors += list(learner.average.parameters())
    if reward.average is not None:
        tensors += list(reward.average.parameters())
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    history = [{k: v for k, v in row.items() if k not in TIMES} for row in result.history]
    return flat, history


EVERYTHING = {
    "sac": SACConfig(
        hidden=[8],
        batch_size=6,
        capacity=200,
        update_every=2,
        compile="never",
        average_over=30,
    ),
    "round": RoundConfig(
        samples="fresh", agent_trajectories=1, expert_trajectories=2, replay_share=0.3
    ),
    "reward": RewardConfig(
        hidden=[8],
        inputs="state_action",
        gradient_penalty=0.1,
        trust_region=0.5,
        average=0.9,
        anneal=True,
        standardised=True,
        columns=[0, 2],
    ),
}


@pytest.fixture(scope="module")
def whole(demonstrations, tmp_path_factory):
    """Runs that nothing interrupted: with training episodes as samples, and with everything on."""
    home = tmp_path_factory.mktemp("whole")
    return {
        "plain": outcome(ml_irl(tiny(demonstrations, home / "plain"))),
        "all": outcome(ml_irl(tiny(demonstrations, home / "all", **EVERYTHING))),
    }


def test_a_standardised_reward_measures_by_the_demonstrations(demonstrations):
    config = tiny(demonstrations, **EVERYTHING)
    reward = ml_irl(config, keep=False).reward
    with world(config) as here:
        steps = here.demonstrations(config.demonstrations).trajectories.steps()
    shown = np.concatenate([steps.observations[:, [0, 2]], steps.actions], axis=1)
    for net in (reward.net, reward.average):
        np.testing.assert_allclose(net.scale, shown.std(axis=0).clip(0.1), rtol=1e-5)


def test_columns_that_the_environment_does_not_have_are_refused(demonstrations):
    with pytest.raises(UserError, match=r"reward: columns must be .* from 0 to 2, .* 7"):
        ml_irl(tiny(demonstrations, reward=RewardConfig(columns=[0, 7])), keep=False)


def test_training_is_cut_after_a_fall_and_evaluation_is_not(tmp_path):
    """A real robot. The level of r is free all the same, and every step of a cut episode counts."""
    rng = np.random.default_rng(0)
    shown = Trajectory(
        rng.normal(size=(121, 11)).astype(np.float32),
        rng.uniform(-1, 1, size=(120, 3)).astype(np.float32),
        terminated=False,
        truncated=True,
    )
    save_demonstrations(tmp_path / "shown.npz", Trajectories([shown]))
    robot = {"name": "Hopper", "max_episode_steps": 120, "fixed_horizon": True}
    lengths = {}
    for cut in (5, None):
        config = tiny(
            str(tmp_path / "shown.npz"),
            environment=EnvironmentConfig(**robot, cut_after_fall=cut),
            sac=SACConfig(hidden=[8], batch_size=6, capacity=1000, compile="never"),
            reward=RewardConfig(hidden=[8], centre=True),
            environment_steps=200,
        )
        result = ml_irl(config, keep=False)
        lengths[cut] = [len(episode) for episode in result.policy.latest]
        last = result.history[-1]
        assert last["eval/length"] == 120
        assert last["steps/environment"] == len(result.policy.buffer)
    assert max(lengths[5]) < 120 and set(lengths[None]) == {120}


VERBS = {
    "sample": (module.AgentTrajectories, "sample"),
    "reward": (module.LikelihoodStep, "fit"),
    "policy": (SoftActorCritic, "improve"),
    "evaluate": (ReturnEvaluator, "evaluate"),
}


@pytest.mark.parametrize("kind", ["plain", "all"])
@pytest.mark.parametrize("phase", VERBS)
def test_killed_in_any_phase_ends_as_an_unbroken_run(
    demonstrations, whole, killed, tmp_path, phase, kind
):
    config = tiny(demonstrations, tmp_path / "run", **(EVERYTHING if kind == "all" else {}))
    killed(lambda: ml_irl(config), [VERBS[phase]], round=1)
    flat, history = outcome(ml_irl(config))
    assert torch.equal(flat, whole[kind][0])
    assert history == whole[kind][1]


def test_every_step_is_counted_once(registered, build, tmp_path):
    path = tmp_path / "counter.npz"
    save_demonstrations(path, build.trajectories((4, 7), (True, False)))
    for samples in ("training", "fresh"):
        registered.clear()
        config = tiny(
            str(path),
            environment=EnvironmentConfig(name="tests/Counter-v0"),
            round=RoundConfig(samples=samples, agent_trajectories=2),
        )
        last = ml_irl(config, keep=False).history[-1]
        learning, *evaluating = [env.taken for env in registered]
        assert last["steps/environment"] == learning >= 60
        assert last["steps/evaluation"] == sum(evaluating) > 0


def test_states_and_actions_of_a_pair_belong_together(build, tmp_path, monkeypatch):
    """Counter shows the action of a step in the observation after it, and only there."""
    path = tmp_path / "counter.npz"
    expert = build.trajectories((4, 7), (True, False))
    save_demonstrations(path, expert)
    seen = []

    def spy(reward, demonstrations, samples, **options):
        seen.append((demonstrations, samples))
        return {}

    monkeypatch.setattr(module, "fit_reward", spy)
    for samples in ("training", "fresh"):
        config = tiny(
            str(path),
            environment=EnvironmentConfig(name="tests/Counter-v0"),
            round=RoundConfig(samples=samples, agent_trajectories=2),
        )
        result = ml_irl(config, keep=False)
    assert len(seen) > 10
    for demonstrations, agent in seen:
        same = agent.trajectory[1:] == agent.trajectory[:-1]
        np.testing.assert_array_equal(agent.observations[1:, 2:][same], agent.actions[:-1][same])
        assert (agent.observations[:, 1] == agent.observations[:, 1].round()).all()
        np.testing.assert_array_equal(demonstrations.observations, expert.steps().observations)
        np.testing.assert_array_equal(demonstrations.actions, expert.steps().actions)
    replayed = result.policy.buffer.recent(1000)
    np.testing.assert_array_equal(replayed.next_observations[:, 2:], replayed.actions)


def test_an_annealed_reward_slows_down_with_the_steps(demonstrations, monkeypatch):
    rates = []

    def spy(reward, *arguments, **options):
        rates.append(reward.optimiser.param_groups[0]["lr"])
        return {}

    monkeypatch.setattr(module, "fit_reward", spy)
    reward = RewardConfig(hidden=[8], learning_rate=0.5, anneal=True)
    history = ml_irl(tiny(demonstrations, reward=reward), keep=False).history
    used = [0.0, *(row["steps/environment"] for row in history[:-1])]
    assert len(used) > 3
    np.testing.assert_allclose(rates, [0.5 * (1 - steps / 60) for steps in used])


def shuffled(path: str, home) -> str:
    """The same demonstrations with their actions in another order."""
    from irl_align.control.demonstrations.loading import load_demonstrations

    rng = np.random.default_rng(0)
    mixed = Trajectories(
        Trajectory(t.observations, rng.permutation(t.actions), t.terminated, t.truncated)
        for t in load_demonstrations(path).trajectories
    )
    save_demonstrations(home / "mixed.npz", mixed)
    return str(home / "mixed.npz")


@pytest.mark.parametrize("inputs", ["state", "state_action"])
def test_a_state_only_run_never_looks_at_the_expert_s_actions(demonstrations, tmp_path, inputs):
    reward = RewardConfig(hidden=[8], inputs=inputs)
    runs = [
        outcome(ml_irl(tiny(path, reward=reward), keep=False))[0]
        for path in (demonstrations, shuffled(demonstrations, tmp_path))
    ]
    assert torch.equal(*runs) == (inputs == "state")


def test_the_true_reward_is_read_by_reports_only(demonstrations):
    good, poisoned = (
        ml_irl(tiny(demonstrations, environment=environment), keep=False)
        for environment in (
            EnvironmentConfig(name="Pendulum", max_episode_steps=12),
            EnvironmentConfig(name="tests/Poisoned-v0"),
        )
    )
    assert torch.equal(outcome(good)[0], outcome(poisoned)[0])
    assert np.isnan(poisoned.history[-1]["eval/return"]) and good.history[-1]["eval/return"] < 0


def test_absorbing_runs_see_ends_on_both_sides(build, tmp_path, monkeypatch):
    path = tmp_path / "counter.npz"
    save_demonstrations(path, build.trajectories((4, 7), (True, False)))
    seen, real = [], module.fit_reward

    def spy(reward, demonstrations, samples, **options):
        seen.append((demonstrations, samples))
        return real(reward, demonstrations, samples, **options)

    monkeypatch.setattr(module, "fit_reward", spy)
    environment = EnvironmentConfig(name="tests/Counter-v0", absorbing=True)
    result = ml_irl(tiny(str(path), environment=environment), keep=False)
    ends = 0
    for demonstrations, agent in seen:
        assert demonstrations.observations[:, -1].sum() == 3  # from step 4 to the limit of 7
        assert (torch.bincount(demonstrations.trajectory) == 7).all()
        assert (torch.bincount(agent.trajectory) == 7).all()
        ends += agent.observations[:, -1].sum().item()
    assert ends > 0
    replayed = result.policy.buffer.recent(1000)
    assert not replayed.terminated.any() and replayed.observations[:, -1].any()


def test_bad_input_is_named_before_anything_runs(demonstrations, build, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.npz"):
        ml_irl(tiny("nowhere.npz", tmp_path / "run"))
    path = tmp_path / "wide.npz"
    save_demonstrations(path, build.trajectories())
    with pytest.raises(UserError, match=r"Pendulum-v1 has 3 observation"):
        ml_irl(tiny(str(path), tmp_path / "run"))
    wanted = DemonstrationConfig(path=demonstrations, count=40)
    with pytest.raises(UserError, match="count=40"):
        ml_irl(tiny("", tmp_path / "run", demonstrations=wanted))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reward.inputs=states", "one of state, state_action"),
        ("reward.hiden=[8]", "unknown key reward.hiden; did you mean hidden?"),
        ("sac.gamma=1", "gamma in"),
        ("round.samples=old", "training, fresh"),
        ("round.replay_share=1", r"replay_share is 1"),
        ("environment_steps=0", "environment_steps is 0"),
        ("reward.trust_region=-1", "trust_region"),
        ("evaluation.every=-1", "0 or more"),
    ],
)
def test_bad_values_are_named_with_their_key(override, message):
    with pytest.raises(UserError, match=message):
        load_config(MLIRLConfig, None, ["demonstrations.path=x.npz", override])


def test_replayed_samples_and_absorbing_states_exclude_each_other():
    with pytest.raises(UserError, match=r"replay_share must be 0 with environment\.absorbing"):
        load_config(
            MLIRLConfig,
            None,
            ["demonstrations.path=x", "environment.absorbing=true", "round.replay_share=0.5"],
        )
