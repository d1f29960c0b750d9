from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from irl_align.control.world_model.penalties import PENALTIES, Predicted

K, B, O = 4, 5, 3  # noqa: E741


@pytest.fixture
def predicted() -> Predicted:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(K, B, O, generator=generator, dtype=torch.float64)
    stds = torch.rand(K, B, O, generator=generator, dtype=torch.float64) + 0.1
    chosen = torch.tensor([0, 3, 1, 2, 2])
    sampled = torch.randn(B, O, generator=generator, dtype=torch.float64)
    return Predicted(means, stds, chosen, sampled)


def by_hand(name: str, p: Predicted, row: int) -> float:
    """The formulas once more, one row and one member at a time."""
    mu, sigma = p.means[:, row].numpy(), p.stds[:, row].numpy()
    spread = (sigma**2).mean(0) + ((mu - mu.mean(0)) ** 2).mean(0)
    if name == "mopo_default":
        return max(math.sqrt((s**2).sum()) for s in sigma)
    if name == "ensemble_var":
        return spread.mean()
    if name == "ensemble_std":
        return np.sqrt(spread).mean()
    if name == "morel":
        return max(np.linalg.norm(a - b) for a in mu for b in mu)
    if name == "lompo":
        normals = [torch.distributions.Normal(p.means[i, row], p.stds[i, row]) for i in range(K)]
        found = np.array([float(n.log_prob(p.sampled[row]).sum()) for n in normals])
        return ((found - found.mean()) ** 2).mean()
    chosen = int(p.chosen[row])
    rest = [i for i in range(K) if i != chosen]
    centre = mu[rest].mean(0)
    # E[x^2] - E[x]^2 of the mixture of the others.
    std = np.sqrt((sigma[rest] ** 2 + mu[rest] ** 2).mean(0) - centre**2)
    normal = torch.distributions.Normal
    other = normal(torch.tensor(centre), torch.tensor(std))
    mine = normal(p.means[chosen, row], p.stds[chosen, row])
    return float(torch.distributions.kl_divergence(mine, other).sum())


@pytest.mark.parametrize("name", PENALTIES)
def test_each_is_its_formula(predicted, name):
    found = PENALTIES[name](predicted)
    np.testing.assert_allclose(found, [by_hand(name, predicted, row) for row in range(B)])
    assert (found > 0).all()


@pytest.mark.parametrize("name", PENALTIES)
def test_members_that_agree_leave_only_the_noise(predicted, name):
    alike = Predicted(
        predicted.means[:1].expand(K, -1, -1), predicted.stds[:1].expand(K, -1, -1), *predicted[2:]
    )
    found = PENALTIES[name](alike)
    std = predicted.stds[0]
    noise = {
        "mopo_default": std.square().sum(-1).sqrt(),
        "ensemble_var": std.square().mean(-1),
        "ensemble_std": std.mean(-1),
    }
    torch.testing.assert_close(found, noise.get(name, torch.zeros_like(found)))


@pytest.mark.parametrize("name", PENALTIES)
def test_the_order_of_the_members_is_nothing(predicted, name):
    order = torch.tensor([2, 0, 3, 1])
    mixed = Predicted(
        predicted.means[order],
        predicted.stds[order],
        order.argsort()[predicted.chosen],
        predicted.sampled,
    )
    torch.testing.assert_close(PENALTIES[name](mixed), PENALTIES[name](predicted))


def test_one_member_has_nobody_to_disagree_with(predicted):
    alone = Predicted(predicted.means[:1], predicted.stds[:1], torch.zeros(B).long(), predicted[3])
    for name in ("morel", "lompo", "m2ac"):
        assert not PENALTIES[name](alone).any()
