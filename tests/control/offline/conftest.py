"""A data set of pendulum swings, and configurations that run in a second or two."""

from __future__ import annotations

import numpy as np
import pytest

from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    EvaluationConfig,
    RewardConfig,
    SACConfig,
)
from irl_align.control.experts import record_demonstrations
from irl_align.control.offline.config import (
    ComparisonConfig,
    ImaginationConfig,
    OfflineMLIRLConfig,
)
from irl_align.control.policies import RandomPolicy
from irl_align.control.spaces import Spaces
from irl_align.control.world_model.config import WorldModelConfig


@pytest.fixture(scope="session")
def swings(tmp_path_factory) -> str:
    """Ten episodes of twelve steps of a pendulum that is pushed at random."""
    path = tmp_path_factory.mktemp("data") / "swings.npz"
    spaces = Spaces("Pendulum-v1", 3, np.array([-2], np.float32), np.array([2], np.float32))
    policy = RandomPolicy(spaces, 1)
    record_demonstrations(policy, "Pendulum", 10, seed=3, path=path, max_episode_steps=12)
    return str(path)


@pytest.fixture(scope="session")
def sections(swings):
    """sections(): the sections of a tiny configuration, to be changed."""

    def make() -> dict:
        return {
            "environment": EnvironmentConfig(name="Pendulum", max_episode_steps=12),
            "dataset": DemonstrationConfig(path=swings),
            "world_model": WorldModelConfig(
                members=3,
                elites=2,
                hidden=[8],
                weight_decay=[1e-5],
                batch_size=16,
                max_epochs=3,
                compile="never",
            ),
            "imagination": ImaginationConfig(
                epochs=2,
                starts=20,
                horizon=3,
                continued=0.5,
                updates=4,
                real_share=0.2,
                penalty="ensemble_std",
            ),
            "sac": SACConfig(
                hidden=[8], batch_size=10, capacity=100, update_every=2, compile="never"
            ),
            "evaluation": EvaluationConfig(every=2, episodes=2),
            "rounds": 4,
        }

    return make


@pytest.fixture(scope="session")
def tiny(sections, demonstrations):
    """tiny(run_dir, **changes): a configuration of offline ML-IRL."""

    def make(run_dir="unused", **changes) -> OfflineMLIRLConfig:
        own = {
            "demonstrations": DemonstrationConfig(path=demonstrations),
            "reward": RewardConfig(hidden=[8], steps=2),
            "comparison": ComparisonConfig(rollouts=5, horizon=6),
        }
        return OfflineMLIRLConfig(run_dir=str(run_dir), **{**sections(), **own, **changes})

    return make
