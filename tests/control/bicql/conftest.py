"""Small learners, and rows to feed them with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.bicql.config import (
    ActingConfig,
    ConservativeConfig,
    CriticConfig,
    ProposalConfig,
)
from irl_align.control.bicql.learner import QLearner
from irl_align.control.buffers import Layout
from irl_align.control.spaces import Spaces


@pytest.fixture(scope="session")
def indexed() -> Spaces:
    """Three actions that are indices."""
    return Spaces(
        "Indexed-v0", 4, np.zeros(1, np.float32), np.full(1, 2, np.float32), 7, discrete_actions=3
    )


@pytest.fixture(scope="session")
def learner():
    """learner(spaces, critic={...}, conservative={...}, ...): narrow, uncompiled."""

    def make(spaces, *, clone=None, seed=0, critic=None, conservative=None, proposals=None):
        width = spaces.discrete_actions or spaces.action_dim
        return QLearner(
            spaces,
            Layout(spaces.observation_dim, width),
            CriticConfig(**{"hidden": [8, 8], "compile": "never", **(critic or {})}),
            ConservativeConfig(**(conservative or {})),
            ProposalConfig(**{"uniform": 5, "cloned": 3, "near": 4, **(proposals or {})}),
            ActingConfig(),
            clone=clone,
            seed=seed,
        )

    return make


@pytest.fixture(scope="session")
def drawn():
    """drawn(spaces, half, seed) -> rows [2 half, width] and rewards [2 half]; some terminate."""

    def draw(spaces, half, seed=0):
        rng = np.random.default_rng(seed)
        size = 2 * half
        if spaces.discrete_actions is None:
            low, high = spaces.action_low, spaces.action_high
            actions = rng.uniform(low, high, (size, spaces.action_dim))
        else:
            actions = np.eye(spaces.discrete_actions)[rng.integers(0, 3, size)]
        states = rng.normal(size=(2, size, spaces.observation_dim))
        ends = rng.random((size, 1)) < 0.3
        rows = np.concatenate([states[0], actions, states[1], ends], axis=1)
        return (
            torch.tensor(rows, dtype=torch.float32),
            torch.tensor(rng.normal(size=size), dtype=torch.float32),
        )

    return draw


def numbers(state) -> list[torch.Tensor]:
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in numbers(value)]
    if isinstance(state, list):
        return [tensor for value in state for tensor in numbers(value)]
    return [state.detach().flatten().double()]


@pytest.fixture(scope="session")
def outcome():
    """All that a run ends with, as numbers; its history without times."""

    def of(result):
        parts = result.policy.parts
        reward = result.reward.optimiser.state_dict()["state"]
        tensors = numbers(
            [
                parts.critic.state_dict(),
                parts.target.state_dict(),
                parts.log_alpha,
                parts.critic_moments.state_dict(),
                parts.alpha_moments.state_dict(),
                result.reward.net.state_dict(),
                reward,
                result.policy.direction,
            ]
        )
        history = [
            {k: v for k, v in row.items() if not k.startswith("time/")} for row in result.history
        ]
        return torch.cat(tensors), history

    return of
