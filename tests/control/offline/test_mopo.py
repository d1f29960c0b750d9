from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.config import DemonstrationConfig
from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.mopo import mopo
from irl_align.control.networks.rewards import RewardNet, save_reward
from irl_align.control.offline.config import MOPOConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.offline.improvement import ModelBasedSoftActorCritic
from irl_align.control.offline.true_reward import FittedTrueReward, fit_true_reward
from irl_align.control.offline_ml_irl import offline_ml_irl
from irl_align.control.true_rewards import TrueRewards
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def config(sections):
    def make(run_dir="unused", reward="true_reward", **changes) -> MOPOConfig:
        return MOPOConfig(run_dir=str(run_dir), reward=str(reward), **{**sections(), **changes})

    return make


def weights(result):
    return torch.cat([p.detach().flatten() for p in result.policy.agent.actor.parameters()])


def speed(sign: float, path) -> str:
    """A saved reward of about sign * s_2, by hand."""
    net = RewardNet(3, 1, (4,), inputs="state")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.net[0].weight[0, 2], net.net[0].weight[1, 2] = 1.0, -1.0
        net.net[2].weight[0, 0], net.net[2].weight[0, 1] = sign, -sign
    save_reward(path, net, environment="Pendulum-v1")
    return str(path)


def changed(path: str, home, rewards) -> str:
    """The same data set with other rewards; None for none."""
    loaded = load_demonstrations(path)
    paid = None if rewards is None else TrueRewards([rewards(t) for t in loaded.trajectories])
    save_demonstrations(home / "changed.npz", loaded.trajectories, paid)
    return str(home / "changed.npz")


def test_a_frozen_reward_is_used_and_the_data_set_s_is_not(config, swings, tmp_path):
    up, down = (speed(sign, tmp_path / f"{sign}.pt") for sign in (1.0, -1.0))
    other = changed(swings, tmp_path, lambda t: np.full(len(t), 1e6))
    first = weights(mopo(config(reward=up), keep=False))
    assert not torch.equal(first, weights(mopo(config(reward=down), keep=False)))
    dataset = DemonstrationConfig(path=other)
    assert torch.equal(first, weights(mopo(config(reward=up, dataset=dataset), keep=False)))


def test_the_yardstick_is_the_data_set_s_own_reward(config, swings, tmp_path):
    other = changed(swings, tmp_path, lambda t: -np.arange(len(t)))
    first = weights(mopo(config(), keep=False))
    dataset = DemonstrationConfig(path=other)
    assert not torch.equal(first, weights(mopo(config(dataset=dataset), keep=False)))
    dataset = DemonstrationConfig(path=changed(swings, tmp_path, None))
    with pytest.raises(UserError, match=r"changed\.npz: no rewards in it"):
        mopo(config(tmp_path / "run", dataset=dataset))
    assert not (tmp_path / "run").exists()


def test_a_reward_from_one_data_set_is_solved_in_another(tiny, config, demonstrations, tmp_path):
    offline_ml_irl(tiny(tmp_path / "learned" / "seed-0", rounds=2))
    dataset = DemonstrationConfig(path=demonstrations)
    result = mopo(config(reward=tmp_path / "learned", dataset=dataset, rounds=2), keep=False)
    assert len(result.history) == 2 and result.history[-1]["eval/return"] < 0
    assert not [key for key in result.history[-1] if key.startswith("reward/")]


def test_killed_and_run_again_ends_as_an_unbroken_run(config, killed, tmp_path):
    whole = mopo(config(tmp_path / "whole"))
    broken = config(tmp_path / "broken")
    killed(lambda: mopo(broken), [(ModelBasedSoftActorCritic, "improve")], round=2)
    again = mopo(broken)
    assert torch.equal(weights(whole), weights(again))
    kept = FittedTrueReward.load(tmp_path / "broken/setup/true_reward")
    assert kept.explained == FittedTrueReward.load(tmp_path / "whole/setup/true_reward").explained


def test_a_linear_reward_is_found(build):
    """r = 5 + 40 s_0 - 20 a_1 of 2,000 random steps."""
    rng = np.random.default_rng(0)
    trajectories = build.trajectories((800, 700, 500), (False, True, False))
    loaded = load_demonstrations(
        [
            {"observations": t.observations, "actions": t.actions, "terminated": t.terminated}
            for t in trajectories
        ]
    )
    data = OfflineDataset.loaded(loaded)

    def pays(t):
        return 5 + 40 * t.observations[:-1, 0] - 20 * t.actions[:, 1]

    found = fit_true_reward(data, TrueRewards([pays(t) for t in loaded.trajectories]), seed=0)
    assert found.explained > 0.99
    observations = torch.from_numpy(rng.normal(size=(200, 4)).astype(np.float32))
    actions = torch.from_numpy(rng.uniform(-1, 1, (200, 2)).astype(np.float32))
    wanted = 5 + 40 * observations[:, 0] - 20 * actions[:, 1]
    assert (found(observations, actions) - wanted).square().mean().sqrt() < 0.15 * wanted.std()
    noise = fit_true_reward(
        data, TrueRewards([rng.normal(size=len(t)) for t in loaded.trajectories]), seed=0
    )
    assert noise.explained < 0.1


def test_a_reward_must_be_named(config, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        mopo(config(tmp_path / "run", reward="nowhere"))
    assert not (tmp_path / "run").exists()
