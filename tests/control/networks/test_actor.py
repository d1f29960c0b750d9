from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import distributions

from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.numpy_actor import NumpyActor, load_actor, save_actor
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError


@pytest.fixture
def actor(spaces):
    torch.manual_seed(0)
    return SquashedGaussianActor(spaces, (32, 32))


@pytest.fixture
def observations():
    return torch.randn(64, 4, generator=torch.Generator().manual_seed(1))


def reference(actor, observations):
    """The density of tanh(u), by torch's own transformed distribution."""
    mean, log_std = actor(observations)
    return distributions.Independent(
        distributions.TransformedDistribution(
            distributions.Normal(mean, log_std.exp()), distributions.TanhTransform()
        ),
        1,
    )


def test_samples_have_the_density_they_say(actor, observations):
    noise = torch.randn(64, 2, generator=torch.Generator().manual_seed(2))
    actions, log_probs = actor.sample(observations, noise)
    mean, log_std = actor(observations)
    squashed = torch.tanh(mean + log_std.exp() * noise)
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 5.0])
    torch.testing.assert_close(actions, low + (squashed + 1) / 2 * (high - low))
    assert (actions > low).all() and (actions < high).all()
    torch.testing.assert_close(
        log_probs, reference(actor, observations).log_prob(squashed), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        actor.log_prob(observations, actions), log_probs, rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        actor.mode(observations), actor.sample(observations, torch.zeros(64, 2)).actions
    )


def test_the_density_integrates_to_one(actor, observations):
    """Over the unit box, whatever the units of the environment: alpha's scale depends on it."""
    one = Spaces("x", 4, np.array([-3], np.float32), np.array([9], np.float32))
    torch.manual_seed(0)
    narrow = SquashedGaussianActor(one, (16,))
    grid = torch.linspace(-1 + 1e-5, 1 - 1e-5, 200_001)
    actions = (3 + 6 * grid)[:, None]
    density = narrow.log_prob(observations[:1].expand(len(grid), -1), actions).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1.0, abs=2e-3)


def test_densities_stay_finite_at_the_edge(actor, observations):
    far = actor.sample(observations, torch.full((64, 2), 30.0))
    assert torch.isfinite(far.log_probs).all()
    edge = torch.tensor([2.0, 0.0]).expand(64, 2)
    given = actor.log_prob(observations, edge)
    assert torch.isfinite(given).all()
    given.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in actor.parameters())


def test_gradients_flow_through_the_sample(actor, observations):
    noise = torch.ones(64, 2)
    actor.sample(observations, noise).actions.sum().backward()
    mean_grad, log_std_grad = actor.layers[-1].weight.grad.chunk(2)
    assert mean_grad.abs().max() > 0
    assert log_std_grad.abs().max() > 0


def test_log_std_is_clipped(spaces):
    actor = SquashedGaussianActor(spaces, (8,))
    with torch.no_grad():
        actor.layers[-1].bias[2:] = torch.tensor([100.0, -100.0])
        actor.layers[-1].weight[2:] = 0.0
    _, log_std = actor(torch.zeros(3, 4))
    assert log_std[0].tolist() == [2.0, -20.0]
    np.testing.assert_array_equal(
        NumpyActor.of(actor).distribution(np.zeros(4, np.float32))[1], [2.0, -20.0]
    )


def test_boxes_without_bounds_are_refused():
    endless = Spaces("x", 4, np.array([-np.inf], np.float32), np.array([1], np.float32))
    with pytest.raises(ValueError, match="box with bounds"):
        SquashedGaussianActor(endless)


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
@pytest.mark.parametrize("hidden", [(64, 64), (256, 256), (16,)])
def test_numpy_equals_torch(spaces, observations, hidden, activation):
    torch.manual_seed(0)
    actor = SquashedGaussianActor(spaces, hidden, activation)
    fast = NumpyActor.of(actor)
    with torch.no_grad():
        mean, log_std = actor(observations)
        mode = actor.mode(observations)
    found_mean, found_log_std = fast.distribution(observations.numpy())
    np.testing.assert_allclose(found_mean, mean, atol=1e-6)
    np.testing.assert_allclose(found_log_std, log_std, atol=1e-6)
    act = fast.deterministic()
    np.testing.assert_allclose(act(observations.numpy()), mode, atol=2e-6)  # half widths of 2.5
    one = act(observations[3].numpy())
    assert one.shape == (2,) and one.dtype == np.float32
    np.testing.assert_allclose(one, mode[3], atol=2e-6)


def test_numpy_noise_is_the_actors(actor, observations):
    draw = NumpyActor.of(actor).stochastic(5)(observations.numpy())
    noise = np.random.default_rng(5).standard_normal((64, 2), dtype=np.float32)
    with torch.no_grad():
        expected = actor.sample(observations, torch.from_numpy(noise)).actions
    np.testing.assert_allclose(draw, expected, atol=5e-6)
    # A stream, not the same noise again and again.
    act = NumpyActor.of(actor).stochastic(5)
    assert (act(observations.numpy()) != act(observations.numpy())).any()


def test_views_follow_the_optimiser(actor, observations):
    fast = NumpyActor.of(actor)
    act = fast.deterministic()
    before = act(observations.numpy())
    optimiser = torch.optim.Adam(actor.parameters(), lr=1e-2, fused=True)
    for _ in range(3):
        optimiser.zero_grad()
        actor.mode(observations).sum().backward()
        optimiser.step()
    after = act(observations.numpy())
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, actor.mode(observations).detach(), atol=2e-6)


def test_acting_changes_nothing(actor, observations):
    given = observations.numpy().copy()
    weights = [p.clone() for p in actor.parameters()]
    NumpyActor.of(actor).stochastic(0)(given)
    np.testing.assert_array_equal(given, observations)
    assert all(torch.equal(a, b) for a, b in zip(weights, actor.parameters(), strict=True))


def test_saved_actors_act_alike(actor, observations, tmp_path):
    path = tmp_path / "actor.npz"
    save_actor(path, actor, environment="Test-v0", alpha=0.2)
    loaded = load_actor(path)
    seen = observations.numpy()
    for a, b in (
        (loaded.deterministic(), NumpyActor.of(actor).deterministic()),
        (loaded.stochastic(3), NumpyActor.of(actor).stochastic(3)),
    ):
        np.testing.assert_array_equal(a(seen), b(seen))
    save_actor(tmp_path / "again.npz", loaded, environment="Test-v0", alpha=0.2)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_damaged_actors_are_named(actor, tmp_path):
    path = tmp_path / "actor.npz"
    save_actor(path, actor)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"actor\.npz: not a saved actor"):
        load_actor(path)
    np.savez(path, observations=np.zeros(3))
    with pytest.raises(UserError, match="not a saved actor"):
        load_actor(path)
    with pytest.raises(UserError, match="no such file"):
        load_actor(tmp_path / "gone.npz")
