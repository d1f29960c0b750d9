"""The losses against torch.distributions, and a policy that is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.baselines.bc import BCConfig, bc, negative_log_likelihood, squared_error
from irl_align.control.config import DemonstrationConfig, EvaluationConfig, SACConfig
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.trajectories import Trajectories, Trajectory


@pytest.fixture
def actor(spaces) -> SquashedGaussianActor:
    torch.manual_seed(3)
    return SquashedGaussianActor(spaces, [8])


def test_the_likelihood_is_that_of_torch_distributions(actor):
    """tanh(u) of a Gaussian u, in a box from (-2, 0) to (2, 5)."""
    from torch import distributions as d

    torch.manual_seed(0)
    seen = torch.randn(50, 4)
    squashed = torch.rand(50, 2) * 1.8 - 0.9
    actions = torch.tensor([0.0, 2.5]) + torch.tensor([2.0, 2.5]) * squashed
    mean, log_std = actor(seen)
    base = d.Independent(d.Normal(mean, log_std.exp()), 1)
    expected = d.TransformedDistribution(base, d.TanhTransform(cache_size=1)).log_prob(squashed)
    found = negative_log_likelihood(actor, seen, actions)
    torch.testing.assert_close(found, -expected.mean(), atol=1e-4, rtol=1e-4)
    found.backward()
    assert all(torch.isfinite(p.grad).all() for p in actor.parameters())


def test_actions_at_the_edge_of_the_box_are_clipped_before_atanh(actor):
    seen = torch.randn(3, 4)
    edge = torch.tensor([[2.0, 5.0], [-2.0, 0.0], [2.5, -1.0]])  # on it, and beyond it
    loss = negative_log_likelihood(actor, seen, edge)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in actor.parameters())


def test_the_squared_error_is_in_units_of_the_box(actor):
    seen, actions = torch.randn(7, 4), torch.randn(7, 2)
    mode = actor.mode(seen)
    by_hand = sum(
        ((mode[i, 0] - actions[i, 0]) / 2.0) ** 2 + ((mode[i, 1] - actions[i, 1]) / 2.5) ** 2
        for i in range(7)
    )
    torch.testing.assert_close(squared_error(actor, seen, actions), by_hand / 7)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """u = s W + b + 0.3 noise for the pendulum: demonstrations, (W, b), their log-likelihood."""
    rng = np.random.default_rng(1)
    weight, bias, std = np.array([0.4, -0.3, 0.05]), 0.1, 0.3
    trajectories, likelihoods = [], []
    for _ in range(4):
        angle = rng.uniform(-np.pi, np.pi, 1001)
        speed = rng.uniform(-3, 3, 1001)
        seen = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
        noise = rng.standard_normal(1000)
        u = seen[:-1] @ weight + bias + std * noise
        density = -0.5 * noise**2 - np.log(std * np.sqrt(2 * np.pi))
        likelihoods.append(density - np.log(1 - np.tanh(u) ** 2))
        trajectories.append(Trajectory(seen, 2 * np.tanh(u)[:, None], False, True))
    path = tmp_path_factory.mktemp("linear") / "linear.npz"
    save_demonstrations(path, Trajectories(trajectories))
    return path, weight, bias, std, np.mean(likelihoods)


@pytest.mark.parametrize("loss", ["likelihood", "mse"])
def test_a_linear_gaussian_policy_is_recovered(linear, loss):
    """A net without hidden layers holds it exactly, so what is left is 1 / sqrt(4000) noise."""
    path, weight, bias, std, truth = linear
    config = BCConfig(
        demonstrations=DemonstrationConfig(path=str(path)),
        sac=SACConfig(hidden=[], compile="never"),
        evaluation=EvaluationConfig(every=0),
        loss=loss,
        epochs=40,
        epochs_per_round=20,
        learning_rate=0.01,
    )
    result = bc(config, keep=False)
    (layer,) = result.policy.agent.actor.layers
    mean, log_std = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    # A squared error has the mean of tanh(u), which lies inside of tanh of the mean.
    near = 0.03 if loss == "likelihood" else 0.05
    np.testing.assert_allclose(mean[0], weight, atol=near)
    assert log_std[0] == pytest.approx(bias, abs=near)
    if loss == "likelihood":
        np.testing.assert_allclose(mean[1], 0, atol=0.06)  # log std depends on nothing
        assert log_std[1] == pytest.approx(np.log(std), abs=0.06)
        assert result.history[-1]["policy/demo_log_prob"] == pytest.approx(truth, abs=0.01)
