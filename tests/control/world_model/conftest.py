"""A linear system with Gaussian noise, of which everything is known, and models made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.buffers import Batch
from irl_align.control.spaces import Spaces
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.model import WorldModel
from irl_align.control.world_model.network import GaussianEnsemble, Scales
from irl_align.control.world_model.terminations import Never


class Linear:
    """s' = s + A s + B a + noise, one deviation for each number of s."""

    a = torch.tensor([[-0.2, 0.1], [0.0, -0.3]])
    b = torch.tensor([[0.5], [-1.0]])
    std = torch.tensor([0.05, 0.2])
    spaces = Spaces("Linear-v0", 2, np.array([-1], np.float32), np.array([1], np.float32))

    def mean(self, observations, actions):
        return observations + observations @ self.a.T + actions @ self.b.T

    def data(self, count: int, seed: int = 0, noise: float = 1.0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        observations = torch.randn(count, 2, generator=generator)
        actions = torch.rand(count, 1, generator=generator) * 2 - 1
        off = noise * self.std * torch.randn(count, 2, generator=generator)
        following = self.mean(observations, actions) + off
        return Batch(observations, actions, following, torch.zeros(count))


def known_model(system: Linear, members: int = 3, std=None, offsets=None) -> WorldModel:
    """The system itself as a world model: one layer, its weights and its noise put in by hand.

    `offsets` [K, O] are added to the members' means.
    """
    ensemble = GaussianEnsemble(members, 3, 2, [])
    with torch.no_grad():
        (layer,) = ensemble.layers
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[:, :2, :2] = system.a.T
        layer.weight[:, 2:, :2] = system.b.T
        if offsets is not None:
            layer.bias[:, 0, :2] = torch.as_tensor(offsets, dtype=torch.float32)
        # Far from both bounds, so that they change nothing.
        ensemble.max_log_var.fill_(60.0)
        ensemble.min_log_var.fill_(-80.0)
        wanted = system.std if std is None else torch.as_tensor(std, dtype=torch.float32)
        layer.bias[:, 0, 2:] = 2 * wanted.log()
    return WorldModel(ensemble, Scales(2, 1), torch.arange(members), Never())


@pytest.fixture
def system() -> Linear:
    return Linear()


@pytest.fixture
def known():
    return known_model


@pytest.fixture
def small():
    """small(**changes): a configuration that fits in a second."""

    def make(**changes) -> WorldModelConfig:
        settings = {
            "members": 3,
            "elites": 2,
            "hidden": [16],
            "weight_decay": [1e-6],
            "batch_size": 64,
            "learning_rate": 3e-3,
            "max_epochs": 60,
            "compile": "never",
        }
        return WorldModelConfig(**{**settings, **changes})

    return make
