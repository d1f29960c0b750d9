"""What the tests of the baselines share: demonstrations, tiny runs, what a run ends with."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    EvaluationConfig,
    SACConfig,
)
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.experts import record_demonstrations
from irl_align.control.policies import RandomPolicy
from irl_align.control.spaces import Spaces


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """A process that has had several cannot be forked: the child would wait for them for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Poisoned(PendulumEnv):
    """A pendulum whose reward is of no use to anyone."""

    def step(self, action):
        seen, _, terminated, truncated, info = super().step(action)
        return seen, float("nan"), terminated, truncated, info


@pytest.fixture(scope="module")
def registered(build):
    """`baselines/Poisoned-v0`, `baselines/Counter-v0`; the counters that were made."""
    taken = []

    def counter(**options):
        env = build.counter(**options)
        taken.append(env)
        return env

    gymnasium.register("baselines/Poisoned-v0", Poisoned, max_episode_steps=12)
    gymnasium.register("baselines/Counter-v0", counter, max_episode_steps=7)
    yield taken
    for name in ("baselines/Poisoned-v0", "baselines/Counter-v0"):
        del gymnasium.registry[name]


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory) -> str:
    """Twelve steps each of a pendulum that nobody steers well."""
    path = tmp_path_factory.mktemp("demonstrations") / "pendulum.npz"
    spaces = Spaces("Pendulum-v1", 3, np.array([-2], np.float32), np.array([2], np.float32))
    policy = RandomPolicy(spaces, 0)
    record_demonstrations(policy, "Pendulum", 4, seed=7, path=path, max_episode_steps=12)
    return str(path)


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
