"""What the tests of the baselines share: demonstrations, tiny runs, what a run ends with."""

from __future__ import annotations

import pytest
import torch

from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    EvaluationConfig,
    SACConfig,
)
from irl_align.control.demonstrations.saving import save_demonstrations


@pytest.fixture
def counted(build, tmp_path) -> str:
    """Demonstrations for the counter, one of two with an early end."""
    path = tmp_path / "counter.npz"
    save_demonstrations(path, build.trajectories((4, 7), (True, False)))
    return str(path)


@pytest.fixture(scope="session")
def tiny():
    """tiny(Config, path, run_dir, **changes): some sixty steps of a small pendulum."""

    def make(kind, path, run_dir="unused", **changes):
        sections = {
            "environment": EnvironmentConfig(name="Pendulum", max_episode_steps=12),
            "demonstrations": DemonstrationConfig(path=path),
            "sac": SACConfig(
                hidden=[8], batch_size=6, capacity=200, update_every=2, compile="never"
            ),
            "evaluation": EvaluationConfig(every=2, episodes=2),
            "environment_steps": 60,
            "save_every": 1,
        }
        return kind(run_dir=str(run_dir), **{**sections, **changes})

    return make


@pytest.fixture(scope="session")
def outcome():
    """All that a run ends with, as numbers: parameters, moments and replay; the history."""

    def flat(state) -> list[torch.Tensor]:
        if isinstance(state, dict):
            return [tensor for value in state.values() for tensor in flat(value)]
        if isinstance(state, list):
            return [tensor for value in state for tensor in flat(value)]
        return [state.flatten().double()]

    def of(result):
        learner = result.policy
        tensors = flat(learner.agent.state_dict())
        if len(learner.buffer):
            tensors.append(learner.buffer.recent(10**6).observations.flatten().double())
        history = [
            {k: v for k, v in row.items() if not k.startswith("time/")} for row in result.history
        ]
        return torch.cat(tensors), history

    return of
