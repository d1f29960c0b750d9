"""A small agent and rows to feed it with."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from irl_align.control.config import SACConfig
from irl_align.control.sac.agent import SAC


@pytest.fixture
def config() -> SACConfig:
    return SACConfig(hidden=[8, 8], batch_size=6, capacity=500, update_every=2, compile="never")


@pytest.fixture
def agent(spaces, config) -> SAC:
    return SAC(spaces, config, seed=1)


@pytest.fixture
def drawn(spaces):
    """drawn(K, B, seed) -> rows [K, B, width] and rewards [K, B]; some rows terminate."""

    def draw(batches: int, size: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        shape = batches, size, spaces.observation_dim
        actions = rng.uniform(spaces.action_low, spaces.action_high, (batches, size, 2))
        rows = np.concatenate(
            [
                rng.normal(size=shape),
                actions,
                rng.normal(size=shape),
                rng.random((batches, size, 1)) < 0.2,
            ],
            axis=-1,
        )
        rewards = rng.normal(size=(batches, size))
        return torch.tensor(rows, dtype=torch.float32), torch.tensor(rewards, dtype=torch.float32)

    return draw


@pytest.fixture
def same():
    """Whether two nested states are equal to the bit."""

    def compare(a, b) -> bool:
        if isinstance(a, torch.Tensor):
            return torch.equal(a, b)
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(compare(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(compare, a, b))
        return a == b

    return compare


@pytest.fixture
def duplicate(spaces):
    """Another agent in the same state."""

    def make(agent: SAC, **changes) -> SAC:
        config = copy.copy(agent.config)
        for key, value in changes.items():
            setattr(config, key, value)
        twin = SAC(spaces, config, seed=99, absorbing=agent.settings.absorbing)
        twin.load_state_dict(agent.state_dict())
        return twin

    return make
