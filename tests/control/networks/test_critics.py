from __future__ import annotations

import pytest
import torch
from torch import nn

from irl_align.control.networks.critics import TwinCritic
from irl_align.control.networks.stacked import StackedMLP

MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def separate(net: StackedMLP, activation: str) -> list[nn.Sequential]:
    """Each member as an ordinary network with the same weights."""
    members = []
    for k in range(net.members):
        layers: list[nn.Module] = []
        for stacked in net.layers:
            inputs, outputs = stacked.weight.shape[1:]
            linear = nn.Linear(inputs, outputs)
            with torch.no_grad():
                linear.weight.copy_(stacked.weight[k].T)
                linear.bias.copy_(stacked.bias[k, 0])
            layers += [linear, MODULES[activation]()]
        members.append(nn.Sequential(*layers[:-1]))
    return members


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_twin_critics_equal_two_networks_forward_and_backward(activation):
    torch.manual_seed(0)
    critic = TwinCritic(5, 3, (64, 64), activation)
    pair = separate(critic.net, activation)
    observations = torch.randn(100, 5)
    actions = torch.randn(100, 3, requires_grad=True)
    other_actions = actions.detach().clone().requires_grad_(True)
    targets = torch.randn(100)

    values = critic(observations, actions)
    expected = torch.stack(
        [net(torch.cat([observations, other_actions], 1)).squeeze(1) for net in pair]
    )
    assert values.shape == (2, 100)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
    assert (values[0] - values[1]).abs().max() > 0.01  # twins, not one

    (values - targets).square().sum().backward()
    (expected - targets).square().sum().backward()
    torch.testing.assert_close(actions.grad, other_actions.grad, rtol=1e-4, atol=1e-5)
    for k, net in enumerate(pair):
        linears = [layer for layer in net if isinstance(layer, nn.Linear)]
        for stacked, linear in zip(critic.net.layers, linears, strict=True):
            torch.testing.assert_close(
                stacked.weight.grad[k].T, linear.weight.grad, rtol=1e-4, atol=1e-4
            )
            torch.testing.assert_close(
                stacked.bias.grad[k, 0], linear.bias.grad, rtol=1e-4, atol=1e-4
            )
    torch.testing.assert_close(critic.least(observations, actions), values.min(dim=0).values)


def test_members_take_rows_of_their_own():
    torch.manual_seed(0)
    net = StackedMLP(7, (4, 16, 2), "silu")
    rows = torch.randn(7, 10, 4)
    expected = torch.stack([one(x) for one, x in zip(separate(net, "silu"), rows, strict=True)])
    torch.testing.assert_close(net(rows), expected, rtol=1e-5, atol=1e-6)


def test_initialised_as_torch_does():
    torch.manual_seed(0)
    layer = StackedMLP(2, (400, 300)).layers[0]
    for tensor in (layer.weight, layer.bias):
        assert tensor.abs().max() <= 400**-0.5
    assert layer.weight.std().item() == pytest.approx(
        nn.Linear(400, 300).weight.std().item(), rel=0.02
    )
    assert layer.weight.abs().max() > 0.99 * 400**-0.5


def test_following_is_polyak_averaging():
    torch.manual_seed(0)
    target, online = TwinCritic(5, 3, (8,)), TwinCritic(5, 3, (8,))
    before = [p.detach().clone() for p in target.parameters()]
    fixed = [p.detach().clone() for p in online.parameters()]
    target.follow(online, 0.25)
    for p, old, new in zip(target.parameters(), before, fixed, strict=True):
        torch.testing.assert_close(p.detach(), 0.75 * old + 0.25 * new)
    assert all(torch.equal(a, b) for a, b in zip(online.parameters(), fixed, strict=True))
    target.follow(online, 1.0)
    assert all(
        torch.allclose(a, b) for a, b in zip(target.parameters(), online.parameters(), strict=True)
    )


def test_bad_sizes():
    with pytest.raises(ValueError):
        StackedMLP(2, (4,))
    with pytest.raises(ValueError):
        StackedMLP(0, (4, 1))
