from __future__ import annotations

import pytest
import torch
from torch import nn

from irl_align.control.environments.ant_model import actuator_permutation
from irl_align.control.networks.rewards import (
    PermutedActions,
    RewardNet,
    load_reward,
    save_reward,
    soft_bound,
)
from irl_align.core.errors import UserError


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 4, generator=generator), torch.randn(50, 2, generator=generator)


def test_a_state_reward_ignores_actions_and_a_state_action_reward_does_not(batch):
    observations, actions = batch
    torch.manual_seed(0)
    of_states = RewardNet(4, 2, inputs="state")
    of_both = RewardNet(4, 2, inputs="state_action")
    assert of_states(observations, actions).shape == (50,)
    assert torch.equal(of_states(observations, actions), of_states(observations, -actions))
    assert (of_both(observations, actions) != of_both(observations, -actions)).all()
    # Any leading dimensions, such as trajectories and steps.
    grid = of_both(observations.view(5, 10, 4), actions.view(5, 10, 2))
    torch.testing.assert_close(grid.flatten(), of_both(observations, actions))


@pytest.mark.parametrize(("activation", "module"), [("relu", nn.ReLU), ("tanh", nn.Tanh)])
def test_every_hidden_layer_has_its_activation(activation, module):
    net = RewardNet(4, 2, (64, 64), activation=activation)
    kinds = [type(layer) for layer in net.net]
    assert kinds == [nn.Linear, module, nn.Linear, module, nn.Linear]


def test_the_bound_is_smooth_and_never_dead():
    x = torch.linspace(-40, 40, 401, requires_grad=True)
    bounded = soft_bound(x, 10.0)
    assert bounded.abs().max() < 10 + 1e-5
    bounded.sum().backward()
    assert (x.grad > 0).all() and x.grad[200].item() == pytest.approx(1.0)  # a clamp has 0 outside
    assert x.grad.max() <= 1.0
    small = torch.tensor([-0.1, 0.2])
    torch.testing.assert_close(soft_bound(small, 10.0), small, rtol=1e-3, atol=0)


def test_bound_and_saturation(batch):
    observations, actions = batch
    torch.manual_seed(0)
    net, free = RewardNet(4, 2, bound=0.5), RewardNet(4, 2, bound=None)
    free.load_state_dict(net.state_dict())
    for p in (*net.parameters(), *free.parameters()):
        p.data *= 2
    unbounded = free(observations, actions)
    assert unbounded.abs().max() > 0.5
    bounded = net(observations, actions)
    torch.testing.assert_close(bounded, soft_bound(unbounded, 0.5))
    share = (bounded.abs() > 0.475).float().mean().item()
    assert net.saturation(bounded) == pytest.approx(share) and 0 < share < 1
    assert free.saturation(unbounded) == 0.0


def test_spectral_norm_makes_the_reward_lipschitz(batch):
    observations, actions = batch
    torch.manual_seed(0)
    wild, tame = RewardNet(4, 2), RewardNet(4, 2, spectral_norm=True)
    for layer in wild.net:
        if isinstance(layer, nn.Linear):
            layer.weight.data *= 20
    for layer in tame.net:
        if isinstance(layer, nn.Linear):
            layer.parametrizations.weight.original.data *= 20
    for _ in range(50):
        tame(observations, actions)

    def steepest(net):
        x = observations.clone().requires_grad_(True)
        net(x, actions).sum().backward()
        return x.grad.norm(dim=1).max().item()

    assert steepest(wild) > 2.0
    assert steepest(tame) <= 1.01
    assert all(layer.weight.norm(2) <= 20 for layer in tame.net if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("inputs", ["state", "state_action"])
def test_a_reward_sees_its_columns_alone(batch, inputs):
    observations, actions = batch
    net = RewardNet(4, 2, inputs=inputs, columns=[2, 0])
    changed = observations.clone()
    changed[:, [1, 3]] += 1
    assert torch.equal(net(changed, actions), net(observations, actions))
    for seen in (0, 2):
        changed = observations.clone()
        changed[:, seen] += 1
        assert (net(changed, actions) != net(observations, actions)).all()


def test_a_standardised_reward_magnifies_what_hardly_moves_up_to_a_limit(batch):
    observations, actions = batch
    observations = observations * torch.tensor([20.0, 1.0, 0.02, 0.0]) + 3
    net = RewardNet(4, 2, inputs="state_action", standardised=True)
    before = net(observations, actions)
    net.standardise(observations, actions)
    deviations = net.features(observations, actions).std(dim=0, correction=0)
    torch.testing.assert_close(deviations[[0, 1, 4, 5]], torch.ones(4))
    torch.testing.assert_close(deviations[2], 10 * observations[:, 2].std(correction=0))
    assert deviations[3] < 1e-5
    assert (net(observations, actions) != before).any()
    with pytest.raises(ValueError, match="standardised"):
        RewardNet(4, 2).standardise(observations, actions)


def test_wrong_choices_are_refused():
    for arguments in (
        {"inputs": "states"},
        {"activation": "gelu"},
        {"bound": 0.0},
        {"columns": [4]},
        {"columns": [0, 0]},
        {"columns": []},
    ):
        with pytest.raises(ValueError):
            RewardNet(4, 2, **arguments)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("inputs", ["state", "state_action"])
def test_a_saved_reward_scores_alike(batch, tmp_path, inputs, spectral_norm):
    torch.manual_seed(0)
    net = RewardNet(4, 2, (16, 8), inputs=inputs, activation="tanh", bound=3.0,
                    spectral_norm=spectral_norm, standardised=True, columns=[0, 3])  # fmt: skip
    net.standardise(*batch)
    net(*batch)
    save_reward(tmp_path / "reward.pt", net, environment="Hopper-v5", alpha=0.2)
    torch.manual_seed(1)
    loaded, facts = load_reward(tmp_path / "reward.pt")
    assert facts == {"environment": "Hopper-v5", "alpha": 0.2}
    assert loaded.config == net.config and not loaded.training
    assert torch.equal(loaded(*batch), net.eval()(*batch))


def test_what_is_no_reward_is_named(tmp_path):
    with pytest.raises(UserError, match="no such reward net"):
        load_reward(tmp_path / "gone.pt")
    path = tmp_path / "other.pt"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"other\.pt: not a reward net"):
        load_reward(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(UserError, match="not a reward net"):
        load_reward(path)
    torch.save({"config": RewardNet(4, 2).config, "weights": RewardNet(4, 3).state_dict(),
                "facts": {}}, path)  # fmt: skip
    with pytest.raises(UserError, match="size mismatch"):
        load_reward(path)


def test_permuted_actions_reach_the_motor_that_the_reward_was_learned_on():
    order = actuator_permutation("CustomAnt", "DisabledAnt")
    torch.manual_seed(0)
    learned = RewardNet(111, 8)
    moved = PermutedActions(learned, order)
    observations, in_disabled = torch.randn(20, 111), torch.randn(20, 8)
    in_custom = in_disabled[:, torch.from_numpy(order)]
    torch.testing.assert_close(moved(observations, in_disabled), learned(observations, in_custom))
    assert (moved(observations, in_disabled) != learned(observations, in_disabled)).any()
