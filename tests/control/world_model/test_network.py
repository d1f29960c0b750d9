from __future__ import annotations

import math

import pytest
import torch

from irl_align.control.sac.adam import Moments
from irl_align.control.sac.compiling import why_not
from irl_align.control.world_model.network import GaussianEnsemble, Scales
from irl_align.control.world_model.step import Settings, compiled_update, gaussian_losses, update

K, IN, O = 3, 5, 2  # noqa: E741


def ensemble(seed: int = 0, members: int = K, hidden=(8, 6)) -> GaussianEnsemble:
    generators = [torch.Generator().manual_seed(seed + k) for k in range(members)]
    return GaussianEnsemble(members, IN, O, hidden, "silu", generators)


def plain_forward(net: GaussianEnsemble, member: int, x):
    """The same member with plain matrix products."""
    for layer in net.layers[:-1]:
        x = x @ layer.weight[member] + layer.bias[member]
        x = x * torch.sigmoid(x)
    mean, raw = (x @ net.layers[-1].weight[member] + net.layers[-1].bias[member]).chunk(2, dim=-1)
    hi, lo = net.max_log_var[member], net.min_log_var[member]
    log_var = hi - torch.log1p(torch.exp(hi - raw))
    return mean, lo + torch.log1p(torch.exp(log_var - lo))


def test_each_member_is_a_perceptron_of_its_own():
    net, x = ensemble(), torch.randn(7, IN)
    mean, log_var = net(x)
    assert mean.shape == log_var.shape == (K, 7, O)
    for member in range(K):
        wanted = plain_forward(net, member, x)
        torch.testing.assert_close((mean[member], log_var[member]), wanted)
    torch.testing.assert_close(net.predict(x), (mean, log_var))
    with torch.no_grad():  # bounds of their own, too
        net.max_log_var += torch.randn_like(net.max_log_var)
        net.min_log_var += torch.randn_like(net.min_log_var)
    mean, log_var = net(x)
    members = torch.tensor([2, 0, 0, 2, 2, 0, 2])  # not all of them
    wanted = mean[members, torch.arange(7)], log_var[members, torch.arange(7)]
    torch.testing.assert_close(net.predict_by(x, members), wanted)


def test_the_log_variance_stays_between_its_bounds():
    net = ensemble()
    with torch.no_grad():
        net.layers[-1].weight.mul_(1e4)
    _, log_var = net(torch.randn(500, IN))
    assert log_var.max() <= 0.5 + 1e-4 and log_var.min() >= -10 - 1e-4
    assert log_var.max() > 0.4 and log_var.min() < -9.9


def test_weights_begin_as_a_cut_normal():
    weight = ensemble(members=2, hidden=(400, 400)).layers[1].weight
    std = 0.5 / math.sqrt(400)
    assert weight.abs().max() <= 2 * std
    # A standard normal cut at 2 has the deviation .8796.
    torch.testing.assert_close(weight.std(), torch.tensor(0.8796 * std), rtol=0.01, atol=0)
    assert not torch.equal(weight[0], weight[1])


def test_selected_members_are_copies():
    net = ensemble()
    some = net.select([2, 0])
    x = torch.randn(4, IN)
    for mine, other in zip(some(x), net(x), strict=True):
        torch.testing.assert_close(mine, other[[2, 0]])
    with torch.no_grad():
        some.max_log_var.zero_()
    assert net.max_log_var.all()


def test_the_loss_is_twice_the_negative_log_likelihood():
    mean, log_var, y = torch.randn(3, K, 9, O)
    likelihood = torch.distributions.Normal(mean, (0.5 * log_var).exp()).log_prob(y)
    wanted = (-2 * likelihood - math.log(2 * math.pi)).mean(dim=(1, 2))
    torch.testing.assert_close(gaussian_losses(mean, log_var, y), wanted)


SETTINGS = Settings(1e-2, (0.1, 0.2, 0.3), IN)


def by_torch(net: GaussianEnsemble, member: int, batches) -> list[torch.Tensor]:
    """One member trained with torch's own Adam; its parameters."""
    alone = net.select([member])
    optimiser = torch.optim.Adam(alone.parameters(), lr=SETTINGS.learning_rate)
    for rows in batches:
        mean, log_var = plain_forward(alone, 0, rows[member, :, :IN])
        y = rows[member, :, IN:]
        loss = ((mean - y) ** 2 / log_var.exp() + log_var).mean()
        loss = loss + 0.01 * (alone.max_log_var.sum() - alone.min_log_var.sum())
        for layer, decay in zip(alone.layers, SETTINGS.decay, strict=True):
            loss = loss + decay * (layer.weight**2).sum() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return list(alone.parameters())


def test_a_batched_step_is_a_step_of_each_member_alone():
    net = ensemble()
    batches = torch.randn(20, K, 16, IN + O)
    alone = [by_torch(net, member, batches) for member in range(K)]
    moments = Moments.of(list(net.parameters()))
    for rows in batches:
        losses = update(net, moments, SETTINGS, rows)
    assert losses.shape == (K,)
    for member in range(K):
        for mine, other in zip(net.parameters(), alone[member], strict=True):
            torch.testing.assert_close(mine[member], other[0], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_compiled_and_eager_give_the_same_numbers():
    eager = ensemble()
    compiled = eager.select(range(K))
    moments = [Moments.of(list(net.parameters())) for net in (eager, compiled)]
    for rows in torch.randn(10, K, 16, IN + O):
        one = update(eager, moments[0], SETTINGS, rows)
        other = compiled_update()(compiled, moments[1], SETTINGS, rows)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for mine, other in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_scales():
    inputs = torch.tensor([[1.0, 5.0, 7.0], [3.0, 5.0, 9.0]])
    changes = torch.tensor([[2.0, 0.0], [4.0, 0.0]])
    scales = Scales(2, 1)
    scales.fit(inputs, None)
    torch.testing.assert_close(scales.targets(changes), changes)
    found = scales.inputs(inputs[:, :2], inputs[:, 2:])
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0, -1], [1, 0, 1]]))
    assert scales.inputs(torch.tensor([[1e6, 5.0]]), torch.tensor([[8.0]]))[0, 0] == 10
    scales.fit(inputs, changes)
    torch.testing.assert_close(scales.targets(changes), torch.tensor([[-1.0, 0], [1, 0]]))
