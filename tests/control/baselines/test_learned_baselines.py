"""What GAIL, AIRL and f-IRL promise alike: resumption, counting, what they see and what not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from irl_align.control.baselines.airl import (
    AdversarialStep,
    AIRLConfig,
    AIRLRewardConfig,
    airl,
)
from irl_align.control.baselines.discriminator import ClassifierConfig
from irl_align.control.baselines.f_irl import (
    FIRLConfig,
    FIRLRewardConfig,
    FIRLRoundConfig,
    MatchingStep,
    f_irl,
)
from irl_align.control.baselines.gail import (
    Classification,
    GAILConfig,
    GAILRewardConfig,
    gail,
)
from irl_align.control.baselines.off_policy import ReplaySampler
from irl_align.control.buffers import ReplayBuffer
from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    EvaluationConfig,
    ExpertConfig,
    SACConfig,
)
from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.ml_irl import AgentTrajectories
from irl_align.control.sac.fixed_reward import train_on_fixed_reward
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")

TIMES = {"time/sample", "time/reward", "time/policy", "time/evaluate"}


CLASSIFIER = ClassifierConfig(hidden=[8], batch_size=16, every=5, gradient_penalty=1.0)
METHODS = {
    "gail": (gail, GAILConfig, {"discriminator": CLASSIFIER}),
    "gail-state": (
        gail,
        GAILConfig,
        {
            "discriminator": replace(CLASSIFIER, recent=20),
            "reward": GAILRewardConfig(inputs="state", form="positive", scale=0.5),
        },
    ),
    "airl": (airl, AIRLConfig, {"discriminator": CLASSIFIER}),
    "airl-soft": (
        airl,
        AIRLConfig,
        {
            "discriminator": replace(CLASSIFIER, gradient_penalty=0.0),
            "reward": AIRLRewardConfig(inputs="state_action", shaping=False, policy_reward="soft"),
            "alpha": 0.5,
        },
    ),
    "f_irl": (f_irl, FIRLConfig, {"ratio": replace(CLASSIFIER, gradient_penalty=0.0)}),
    "f_irl-fresh": (
        f_irl,
        FIRLConfig,
        {
            "ratio": CLASSIFIER,
            "reward": FIRLRewardConfig(divergence="js", inputs="state_action", steps=2),
            "round": FIRLRoundConfig(samples="fresh", agent_trajectories=2),
            "environment_steps": 100,
        },
    ),
}
PLAIN = ["gail", "airl", "f_irl"]


def tiny(kind: str, path: str, run_dir="unused", **changes):
    """The method and a configuration of a few rounds."""
    method, schema, options = METHODS[kind]
    options = dict(options)
    sac = SACConfig(
        hidden=[8],
        batch_size=6,
        capacity=200,
        update_every=2,
        compile="never",
        alpha=options.pop("alpha", None),
    )
    sections = {
        "environment": EnvironmentConfig(name="Pendulum", max_episode_steps=12),
        "demonstrations": DemonstrationConfig(path=path),
        "sac": sac,
        "evaluation": EvaluationConfig(every=2, episodes=2),
        "environment_steps": 60,
        "save_every": 1,
    }
    return method, schema(run_dir=str(run_dir), **{**sections, **options, **changes})


def run(kind: str, path: str, run_dir=None, **changes):
    method, config = tiny(kind, path, run_dir or "unused", **changes)
    return method(config, keep=run_dir is not None)


def discriminator_of(reward):
    return getattr(reward, "ratio", reward)


def outcome(result):
    """All that a run ends with, as numbers."""
    learner, reward = result.policy, result.reward
    discriminator = discriminator_of(reward)
    tensors = [
        *learner.agent.actor.parameters(),
        *learner.agent.parts.critic.parameters(),
        *learner.agent.parts.target.parameters(),
        learner.agent.parts.log_alpha,
        *(p for net in discriminator.nets.values() for p in net.parameters()),
        *(s["exp_avg_sq"] for s in discriminator.optimiser.state.values()),
        torch.tensor([float(discriminator.owed)]),
        learner.buffer.recent(10**6).observations,
    ]
    if discriminator is not reward:
        tensors += [*reward.net.parameters()]
        tensors += [s["exp_avg_sq"] for s in reward.optimiser.state.values()]
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    history = [{k: v for k, v in row.items() if k not in TIMES} for row in result.history]
    return flat, history


@pytest.fixture(scope="module")
def whole(demonstrations, tmp_path_factory):
    """Runs that nothing interrupted."""
    home = tmp_path_factory.mktemp("whole")
    return {kind: outcome(run(kind, demonstrations, home / kind)) for kind in METHODS}


VERBS = {
    "gail": {"sample": ReplaySampler, "reward": Classification, "policy": SoftActorCritic},
    "airl": {"sample": ReplaySampler, "reward": AdversarialStep, "policy": SoftActorCritic},
    "f_irl": {"sample": AgentTrajectories, "reward": MatchingStep, "policy": SoftActorCritic},
}
NAMES = {"sample": "sample", "reward": "fit", "policy": "improve", "evaluate": "evaluate"}


@pytest.mark.parametrize("phase", NAMES)
@pytest.mark.parametrize("kind", METHODS)
def test_killed_in_any_phase_ends_as_an_unbroken_run(
    demonstrations, whole, killed, tmp_path, kind, phase
):
    method, config = tiny(kind, demonstrations, tmp_path / "run")
    owner = VERBS[kind.split("-")[0]].get(phase, ReturnEvaluator)
    killed(lambda: method(config), [(owner, NAMES[phase])], round=2)
    flat, history = outcome(method(config))
    assert torch.equal(flat, whole[kind][0])
    assert history == whole[kind][1]


@pytest.mark.parametrize("kind", METHODS)
def test_the_reward_is_learned_in_every_run(whole, kind):
    """What the other tests compare would be equal, too, if nothing were trained."""
    history = whole[kind][1]
    fitted = "ratio/loss" if kind.startswith("f_irl") else "reward/loss"
    losses = [row[fitted] for row in history if fitted in row]
    assert len(losses) == len(history) > 3 and len(set(losses)) == len(losses)
    assert "policy/critic_loss" in history[-1]


@pytest.fixture
def counter(build, tmp_path) -> str:
    path = tmp_path / "counter.npz"
    save_demonstrations(path, build.trajectories((4, 7), (True, False)))
    return str(path)


ABSORBING = EnvironmentConfig(name="tests/Counter-v0", absorbing=True)


@pytest.mark.parametrize("kind", METHODS)
def test_every_step_is_counted_once(registered, counter, kind):
    registered.clear()
    last = run(kind, counter, environment=ABSORBING).history[-1]
    learning, *evaluating = [env.taken for env in registered]
    assert last["steps/environment"] == learning >= 60
    assert last["steps/evaluation"] == sum(evaluating) > 0


@pytest.mark.parametrize("kind", PLAIN)
def test_training_steps_follow_the_steps_of_the_agent(counter, kind):
    """Whatever the lengths of episodes, one training step for every five of the agent's."""
    result = run(kind, counter, environment=ABSORBING)
    discriminator = discriminator_of(result.reward)
    made = int(next(iter(discriminator.optimiser.state.values()))["step"])
    # Steps of the last round were made after its reward phase.
    seen = int(result.history[-2]["steps/environment"])
    assert made == seen // 5 and discriminator.owed == seen % 5


@pytest.mark.parametrize("kind", PLAIN)
def test_states_and_actions_of_a_pair_belong_together(counter, monkeypatch, kind):
    """Counter shows the action of a step in the observation after it, and only there."""
    module = {"gail": "gail", "airl": "airl", "f_irl": "f_irl"}[kind]
    seen = []

    def spy(discriminator, logits, expert, agent, steps, **options):
        seen.append((expert.recent(10**6), agent.recent(10**6)))
        return {}

    monkeypatch.setattr(f"irl_align.control.baselines.{module}.fit_discriminator", spy)
    run(kind, counter, environment=ABSORBING)
    assert len(seen) > 4
    steps = load_demonstrations(counter).trajectories.steps()
    for expert, agent in seen:
        alive = agent.next_observations[:, -1] == 0
        assert alive.sum() > 3
        torch.testing.assert_close(agent.next_observations[alive, 2:4], agent.actions[alive])
        going = expert.observations[:, -1] == 0
        np.testing.assert_array_equal(expert.observations[going, :-1], steps.observations)
        np.testing.assert_array_equal(expert.actions[going], steps.actions)


def shuffled(path: str, home) -> str:
    """The same demonstrations with their actions in another order."""
    rng = np.random.default_rng(0)
    mixed = Trajectories(
        Trajectory(t.observations, rng.permutation(t.actions), t.terminated, t.truncated)
        for t in load_demonstrations(path).trajectories
    )
    save_demonstrations(home / "mixed.npz", mixed)
    return str(home / "mixed.npz")


@pytest.mark.parametrize(
    ("kind", "blind"),
    [("gail", False), ("gail-state", True), ("f_irl", True), ("f_irl-fresh", False)],
)
def test_a_state_only_run_never_looks_at_the_expert_s_actions(
    demonstrations, tmp_path, kind, blind
):
    runs = [
        outcome(run(kind, path))[0] for path in (demonstrations, shuffled(demonstrations, tmp_path))
    ]
    assert torch.equal(*runs) == blind


@pytest.mark.parametrize("kind", PLAIN)
def test_the_true_reward_is_read_by_reports_only(demonstrations, kind):
    good = run(kind, demonstrations)
    poisoned = run(kind, demonstrations, environment=EnvironmentConfig(name="tests/Poisoned-v0"))
    assert torch.equal(outcome(good)[0], outcome(poisoned)[0])
    assert np.isnan(poisoned.history[-1]["eval/return"]) and good.history[-1]["eval/return"] < 0


@pytest.mark.parametrize("kind", PLAIN)
def test_the_file_s_rewards_change_nothing(demonstrations, tmp_path, kind):
    from irl_align.control.true_rewards import TrueRewards

    loaded = load_demonstrations(demonstrations).trajectories
    nonsense = TrueRewards([np.full(len(t), 1e6) for t in loaded])
    save_demonstrations(tmp_path / "paid.npz", loaded, nonsense)
    runs = [outcome(run(kind, path))[0] for path in (demonstrations, str(tmp_path / "paid.npz"))]
    assert torch.equal(*runs)


@pytest.mark.parametrize("kind", PLAIN)
def test_absorbing_runs_see_ends_on_both_sides(counter, monkeypatch, kind):
    seen = []
    name = f"irl_align.control.baselines.{kind}.fit_discriminator"

    def spy(discriminator, logits, expert, agent, steps, **options):
        seen.append((expert.recent(10**6), agent.recent(10**6)))
        return {}

    monkeypatch.setattr(name, spy)
    result = run(kind, counter, environment=ABSORBING)
    stored = SACConfig().absorbing_transitions if kind != "f_irl" else 3  # from step 4 to 7
    ends = 0.0
    for expert, agent in seen:
        assert expert.observations[:, -1].sum() == stored
        assert not expert.terminated.any() and not agent.terminated.any()
        ends += agent.observations[:, -1].sum().item()
    assert ends > 0
    replayed = result.policy.buffer.recent(1000)
    assert not replayed.terminated.any() and replayed.observations[:, -1].any()


def test_f_irl_refuses_episodes_that_end_early(counter):
    with pytest.raises(UserError, match=r"ended after \d steps.*fixed_horizon"):
        run("f_irl", counter, environment=EnvironmentConfig(name="tests/Counter-v0"))
    cut = EnvironmentConfig(name="Hopper", fixed_horizon=True, cut_after_fall=5)
    with pytest.raises(ValueError, match="cut_after_fall must be null"):
        run("f_irl", counter, environment=cut)


@pytest.mark.parametrize("kind", PLAIN)
def test_bad_input_is_named_before_anything_runs(demonstrations, build, tmp_path, kind):
    with pytest.raises(UserError, match=r"nowhere\.npz"):
        run(kind, "nowhere.npz", tmp_path / "run")
    path = tmp_path / "wide.npz"
    save_demonstrations(path, build.trajectories())
    with pytest.raises(UserError, match=r"Pendulum-v1 has 3 observation"):
        run(kind, str(path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["airl", "f_irl"])
def test_a_saved_reward_trains_a_stranger(demonstrations, tmp_path, kind):
    """The reward phase leaves `reward.pt` as ML-IRL does, for agents that were not there."""
    result = run(kind, demonstrations, tmp_path / "run")
    path = tmp_path / f"run/rounds/{len(result.history) - 1:04d}/reward/reward.pt"
    _, config = tiny(kind, demonstrations)
    stranger = ExpertConfig(
        environment=config.environment,
        environment_steps=20,
        sac=config.sac,
        evaluation=config.evaluation,
        reward=str(path),
    )
    frozen = train_on_fixed_reward(stranger, keep=False)
    given = train_on_fixed_reward(stranger, reward=result.reward.net, keep=False)
    assert frozen.history[-1]["policy/critic_loss"] == given.history[-1]["policy/critic_loss"]


def test_demonstrations_get_the_replay_s_absorbing_transitions(build):
    trajectories = build.trajectories((3, 2), (True, False))
    assert len(ReplayBuffer.of(trajectories)) == 5
    assert len(ReplayBuffer.of(trajectories, 4)) == 9
