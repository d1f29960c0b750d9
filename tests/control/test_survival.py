"""Absorbing states where an early end is real: a pole that falls (InvertedPendulum, 50 steps).

Without them a reward of one sign decides how long an agent lives, whatever was demonstrated.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.absorbing import absorbing_state
from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    EvaluationConfig,
    ExpertConfig,
    MLIRLConfig,
    RewardConfig,
    RoundConfig,
    SACConfig,
)
from irl_align.control.experts import record_demonstrations
from irl_align.control.ml_irl import ml_irl
from irl_align.control.sac.fixed_reward import train_on_fixed_reward

POLE, HORIZON = "InvertedPendulum-v5", 50
LEARNER = {"learning_rate": 3e-3, "batch_size": 64, "update_every": 2, "compile": "never"}


def pole(absorbing: bool) -> EnvironmentConfig:
    return EnvironmentConfig(name=POLE, max_episode_steps=HORIZON, absorbing=absorbing)


def life_under_a_constant(reward: float, absorbing: bool) -> float:
    """Steps until the pole falls, for an agent that is paid `reward` for every step."""
    config = ExpertConfig(
        environment_steps=800,
        environment=pole(absorbing),
        sac=SACConfig(hidden=[32], gamma=0.9, alpha=0.1, random_episodes=5, **LEARNER),
        evaluation=EvaluationConfig(every=1000, episodes=20, deterministic=False),
    )
    result = train_on_fixed_reward(
        config, reward=lambda seen, done: torch.full(seen.shape[:-1], reward), keep=False
    )
    return result.history[-1]["eval/length"]


def test_a_constant_says_nothing_about_living_or_dying():
    assert life_under_a_constant(1.0, absorbing=False) > 20  # to live pays
    assert life_under_a_constant(-1.0, absorbing=False) < 5  # to be over pays
    # Over is a state, too, and worth the same: chance acts, which falls within some 6 steps.
    for reward in (1.0, -1.0):
        assert 4 < life_under_a_constant(reward, absorbing=True) < 20


def stands(seen):
    return np.clip(seen @ np.array([1, 4, 1, 1], np.float32), -3, 3)[None]


def falls(seen):
    return np.array([3.0], np.float32)


@pytest.mark.parametrize(
    ("demonstrator", "steps", "alive_is_better"), [(stands, 1400, True), (falls, 300, False)]
)
def test_the_agent_lives_as_long_as_the_demonstrator(
    tmp_path, demonstrator, steps, alive_is_better
):
    path = tmp_path / "demonstrations.npz"
    shown = record_demonstrations(
        demonstrator, POLE, 10, seed=1, path=path, max_episode_steps=HORIZON
    ).trajectories
    config = MLIRLConfig(
        environment_steps=steps,
        environment=pole(absorbing=True),
        demonstrations=DemonstrationConfig(path=str(path)),
        sac=SACConfig(hidden=[32, 32], gamma=0.95, tau=0.02, random_episodes=5, **LEARNER),
        reward=RewardConfig(hidden=[32], bound=5.0, learning_rate=1e-2),
        round=RoundConfig(episodes=2, agent_trajectories=10),
        evaluation=EvaluationConfig(every=1000, episodes=10),
    )
    result = ml_irl(config, keep=False)
    assert result.history[-1]["eval/length"] == pytest.approx(shown.lengths.mean(), rel=0.3)
    with torch.no_grad():
        over = result.reward.net(torch.from_numpy(absorbing_state(5)), torch.zeros(1)).item()
        upright = result.reward.net(torch.zeros(5), torch.zeros(1)).item()
    assert (upright > over) == alive_is_better
