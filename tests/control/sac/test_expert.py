from __future__ import annotations

import ast
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import irl_align.control
from irl_align.control.config import (
    EnvironmentConfig,
    EvaluationConfig,
    ExpertConfig,
    SACConfig,
)
from irl_align.control.networks.rewards import RewardNet, save_reward
from irl_align.control.rollouts import Collector
from irl_align.control.sac.expert import NotingEnvironment, TrueRewardSource
from irl_align.control.sac.fixed_reward import train_on_fixed_reward
from irl_align.control.sac.learner import Learner
from irl_align.control.sac.training import train
from irl_align.core.errors import UserError

ROOM = Path(irl_align.control.__file__).parent
SAC = SACConfig(hidden=[8], batch_size=6, capacity=100, update_every=2, compile="never")


@pytest.mark.parametrize("capacity", [500, 20])
@pytest.mark.parametrize("absorbing", [0, 3])
def test_each_row_has_the_reward_of_its_own_step(build, capacity, absorbing):
    """Counter pays a_0 + t', and t' is the second number of the next observation."""
    environment = NotingEnvironment(build.counter(limit=None))
    collector = Collector(environment, horizon=9)
    config = SACConfig(
        hidden=[8],
        batch_size=6,
        capacity=capacity,
        update_every=2,
        compile="never",
        absorbing_transitions=max(absorbing, 1),
    )
    learner = Learner(collector.spaces, config, seed=0, absorbing=absorbing > 0)
    source = TrueRewardSource(learner.buffer, environment)
    for number in range(6):
        train(learner, collector, source, 2, seed=number, random=number == 0)
    rows, rewards = source.draw(2, 400)
    batch = learner.buffer.layout.unpack(rows)
    expected = batch.actions[..., 0] + batch.next_observations[..., 1]
    if absorbing:
        # The successor of a last step gave way to the absorbing state; t' = t + 1.
        expected = batch.actions[..., 0] + batch.observations[..., 1] + 1
        over = (batch.observations[..., :3] == 0).all(-1) & (batch.actions == 0).all(-1)
        assert over.any()
        expected = expected.where(~over, 0)
    torch.testing.assert_close(rewards, expected)


def tiny(run_dir: Path, **changes) -> ExpertConfig:
    return ExpertConfig(
        run_dir=str(run_dir),
        environment_steps=60,
        save_every=2,
        environment=EnvironmentConfig(name="Pendulum", max_episode_steps=12),
        sac=SAC,
        evaluation=EvaluationConfig(every=2, episodes=2),
        **changes,
    )


class AtRound:
    """A logger that does something before a round is committed."""

    def __init__(self, act) -> None:
        self.act = act

    def log(self, step, metrics, kind="round"):
        self.act(step)


def die_in_round_2(number: int) -> None:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def state_of(result, same):
    learner = result.policy
    return learner.agent.state_dict(), learner.buffer.state_dict(), learner.steps


@pytest.mark.parametrize("reward", [None, "frozen"])
def test_killed_and_run_again_ends_as_an_unbroken_run(tmp_path, same, killed, reward):
    if reward is not None:
        reward = str(tmp_path / "reward.pt")
        save_reward(Path(reward), RewardNet(3, 1, (4,), inputs="state"))
    whole = train_on_fixed_reward(tiny(tmp_path / "whole", reward=reward))
    broken = tiny(tmp_path / "broken", reward=reward)
    killed(lambda: train_on_fixed_reward(broken, loggers=[AtRound(die_in_round_2)]))
    rounds: list[int] = []
    again = train_on_fixed_reward(broken, loggers=[AtRound(rounds.append)])
    assert rounds == [2, 3]  # round 2 was lost, 0 and 1 were not
    for a, b in zip(state_of(whole, same), state_of(again, same), strict=True):
        assert same(a, b)
    drop = ("time/policy", "time/evaluate")
    histories = [
        [{k: v for k, v in row.items() if k not in drop} for row in result.history]
        for result in (whole, again)
    ]
    assert histories[0] == histories[1]
    # Only the last round's replay is kept: none before it can be taken up again.
    replays = sorted((tmp_path / "whole").glob("rounds/*/policy/replay.pt"))
    assert [path.parts[-3] for path in replays] == [f"{len(whole.history) - 1:04d}"]


def test_a_frozen_reward_is_used_and_the_true_one_is_not(tmp_path):
    def run(reward):
        config = tiny(tmp_path / "run")
        result = train_on_fixed_reward(config, reward=reward, keep=False)
        return torch.cat([p.flatten() for p in result.policy.agent.actor.parameters()])

    def speed(sign):
        return lambda observations, actions: sign * observations[..., 2]

    assert not torch.equal(run(speed(1)), run(speed(-1)))
    assert not torch.equal(run(speed(1)), run(None))


def test_a_reward_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "reward.pt"
    save_reward(path, RewardNet(11, 3, (4,)))
    with pytest.raises(UserError, match=r"reward\.pt: a reward of 11.*Pendulum-v1 has 3"):
        train_on_fixed_reward(tiny(tmp_path / "run", reward=str(path)))
    assert not (tmp_path / "run").exists()


def test_only_training_on_a_fixed_reward_knows_the_true_one():
    knowing = {
        path.name
        for path in ROOM.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("sac.expert")
    }
    assert knowing == {"fixed_reward.py"}
    assert "fixed_reward" not in (ROOM / "ml_irl.py").read_text(encoding="utf-8")


def test_evaluation_counts_its_steps_apart(tmp_path):
    result = train_on_fixed_reward(tiny(tmp_path / "run"), keep=False)
    steps = [row["steps/environment"] for row in result.history]
    assert steps == list(np.arange(2, 2 + len(steps)) * 12) and steps[-1] == 60
    apart = [row["steps/evaluation"] for row in result.history]
    assert apart == [0, 24, 24, 48]
    assert ["eval/return" in row for row in result.history] == [False, True, False, True]
