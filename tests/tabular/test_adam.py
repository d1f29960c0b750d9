from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory
from irl_align.tabular.adam import Adam
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.neural import NeuralReward
from irl_align.tabular.rewards import LinearReward
from irl_align.tabular.rollouts import roll_out


def test_it_steps_as_torch_does():
    rng = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    known = torch.optim.Adam([parameter], lr=0.03, maximize=True)
    adam, theta = Adam(0.03), np.zeros(5)
    for _ in range(20):
        gradient = rng.normal(size=5) * [1, 10, 0.1, 1e-6, 0]
        parameter.grad = torch.from_numpy(gradient)
        known.step()
        theta = theta + adam.step(gradient)
    np.testing.assert_allclose(theta, parameter.detach().numpy(), rtol=1e-9, atol=1e-15)
    assert np.abs(theta[:3]).min() > 1e-3


@pytest.fixture
def problem(tables):
    world = tables(0)
    mdp = make_mdp(world.kernel, 0.8, world.initial)
    features = np.random.default_rng(10).normal(size=(6, 3, 4))
    shown = roll_out(mdp, world.policy, 50, 30, np.random.default_rng(5))
    return mdp, features, shown


def test_a_neural_reward_is_fitted_faster_than_by_plain_steps(problem):
    mdp, features, shown = problem
    family = NeuralReward(mdp, features, (16,))

    def end(**options):
        result = ml_irl(mdp, family, shown.occupancy(mdp), rounds=60, seed=1, **options)
        return result.history[-1]["eval/likelihood"]

    assert end(adam=0.03) > end(alpha0=1.0) + 0.1


@pytest.mark.parametrize("phase", ["policy", "sample", "reward"])
@pytest.mark.parametrize("save_every", [1, 2])
def test_a_broken_run_goes_on_with_its_moments(problem, tmp_path, monkeypatch, phase, save_every):
    mdp, features, shown = problem
    family = LinearReward(mdp, features)

    def run(name):
        with RunDirectory(tmp_path / name).open({}) as directory:
            options = {"episodes": 2, "seed": 3, "run": directory, "save_every": save_every}
            result = ml_irl(mdp, family, shown, rounds=6, adam=0.1, **options)
        return result.reward.tolist(), result.policy.tolist()

    whole = run("whole")
    commit = RunDirectory.commit_phase

    def crash(self, round, name, *arguments, **options):
        if (round, name) == (3, phase):
            raise KeyboardInterrupt
        return commit(self, round, name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "commit_phase", crash)
        with pytest.raises(KeyboardInterrupt):
            run("broken")
    assert run("broken") == whole


def test_errors(problem):
    mdp, features, shown = problem
    with pytest.raises(UserError, match="learning_rate must be positive, got 0"):
        Adam(0)
    wild = LinearReward(mdp, features * 1e300)
    with np.errstate(all="ignore"), pytest.raises(UserError, match="lower the learning rate"):
        ml_irl(mdp, wild, shown, rounds=3, adam=1e300, episodes=1, evaluate_every=0)
