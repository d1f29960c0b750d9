from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.environments.making import make
from irl_align.control.experts import (
    StableBaselinesPolicy,
    load_policy,
    record_demonstrations,
)
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.numpy_actor import save_actor
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError


class Model:
    """Stands in for a Stable-Baselines3 model: only `predict` and `load` are used."""

    def __init__(self, gain=1.0):
        self.gain, self.asked = gain, []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.asked.append(deterministic)
        return self.gain * np.asarray(observation)[..., :1], None

    @classmethod
    def load(cls, path, device="auto"):
        if path.read_bytes() != b"a model":
            raise ValueError("not a zip")
        assert device == "cpu"
        return cls(2.0)


class Normaliser:
    def normalize_obs(self, observation):
        return (observation - 1.0) / 2.0


@pytest.fixture
def baselines(monkeypatch):
    module = types.ModuleType("stable_baselines3")
    module.SAC = Model
    monkeypatch.setitem(sys.modules, "stable_baselines3", module)


def test_a_baselines_model_is_a_policy():
    seen = np.array([3.0, 4.0], np.float32)
    model = Model()
    np.testing.assert_array_equal(StableBaselinesPolicy(model)(seen), [3.0])
    StableBaselinesPolicy(model, deterministic=False)(seen)
    assert model.asked == [True, False]
    np.testing.assert_array_equal(
        StableBaselinesPolicy(model, normaliser=Normaliser())(seen), [1.0]
    )


def test_loading_a_zip(baselines, tmp_path):
    path = tmp_path / "expert.zip"
    path.write_bytes(b"a model")
    np.testing.assert_array_equal(load_policy(path, algorithm="SAC")(np.ones(2)), [2.0])
    with pytest.raises(UserError, match=r"expert\.zip: algorithm=None; say which .*SAC"):
        load_policy(path)
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="cannot be loaded as SAC: not a zip"):
        load_policy(path, algorithm="SAC")


def test_missing_files_and_packages(tmp_path, monkeypatch):
    (tmp_path / "expert.zip").write_bytes(b"a model")
    with pytest.raises(UserError, match=r"slip of 'expert\.zip'"):
        load_policy(tmp_path / "exprt.zip")
    with pytest.raises(UserError, match="does not exist"):
        load_policy(tmp_path / "nowhere" / "x.zip")
    (tmp_path / "expert.pt").write_bytes(b"")
    with pytest.raises(UserError, match="unknown kind of policy"):
        load_policy(tmp_path / "expert.pt")
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(UserError, match="pip install stable-baselines3"):
        load_policy(tmp_path / "expert.zip", algorithm="SAC")


def test_recording_an_expert_and_reading_it_again(tmp_path):
    spaces = Spaces.of(make("Pendulum"))
    torch.manual_seed(0)
    save_actor(tmp_path / "policy.npz", SquashedGaussianActor(spaces, (16,)), alpha=0.2)
    path = tmp_path / "demonstrations.npz"

    def record(seed):
        return record_demonstrations(
            load_policy(tmp_path / "policy.npz", deterministic=False, seed=3),
            "Pendulum",
            3,
            seed=seed,
            path=path,
            policy_name="a small actor",
            max_episode_steps=20,
        )

    rollouts = record(seed=1)
    loaded = load_demonstrations(path, environment=spaces)
    assert loaded.report.metadata["environment"] == "Pendulum-v1"
    assert loaded.report.metadata["policy"] == "a small actor"
    assert loaded.report.metadata["options"] == {"max_episode_steps": 20}
    assert not loaded.report.warnings
    for a, b in zip(rollouts.trajectories, loaded.trajectories, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.actions, b.actions)
    np.testing.assert_allclose(loaded.report.returns, rollouts.true_rewards.returns())
    content = path.read_bytes()
    record(seed=1)
    assert path.read_bytes() == content
    record(seed=2)
    assert path.read_bytes() != content
