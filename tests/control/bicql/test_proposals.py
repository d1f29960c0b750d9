from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from irl_align.control.bicql.cloning import Clone, fit_clone
from irl_align.control.bicql.config import ProposalConfig
from irl_align.control.bicql.proposals import (
    BoxProposals,
    truncated_normal,
    truncated_normal_log_density,
)
from irl_align.control.spaces import Spaces
from irl_align.control.transitions import Transitions
from irl_align.core.errors import UserError


@pytest.mark.parametrize(("middle", "std"), [(0.0, 0.5), (0.9, 0.3), (-1.0, 0.05), (0.3, 5.0)])
def test_a_gaussian_cut_off_at_the_box(middle, std):
    other = stats.truncnorm((-1 - middle) / std, (1 - middle) / std, middle, std)
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    m, s = torch.tensor(middle), torch.tensor(std)
    drawn = truncated_normal(uniforms, m, s)
    assert drawn.abs().max() <= 1
    assert stats.kstest(drawn.numpy(), other.cdf).pvalue > 1e-3
    points = torch.linspace(-1, 1, 101)
    np.testing.assert_allclose(
        truncated_normal_log_density(points, m, s), other.logpdf(points.numpy()), atol=2e-4
    )


def test_where_draws_lie_and_in_which_units(spaces):
    """Actions of a box that is neither centred nor of width 2."""
    clone = Clone(4, 2, [])
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.zero_()
        clone.net[-1].bias.copy_(torch.atanh(torch.tensor([0.5, -0.5])))
    clone.std.fill_(0.05)
    proposals = BoxProposals(spaces, ProposalConfig(uniform=40, cloned=50, near=60), clone)
    generator = torch.Generator().manual_seed(0)
    states, shown = torch.randn(30, 4), torch.tensor([[1.0, 4.0]]).expand(30, -1)
    found = proposals.tried(states, shown, generator).actions
    assert found.shape == (30, 150, 2)
    uniform, cloned, near = found.split([40, 50, 60], dim=1)
    low, high = torch.from_numpy(spaces.action_low), torch.from_numpy(spaces.action_high)
    assert (found >= low - 1e-5).all() and (found <= high + 1e-5).all()
    assert (uniform.mean((0, 1)) - (low + high) / 2).abs().max() < 0.15
    width = (high - low) / 2
    torch.testing.assert_close(
        cloned.mean((0, 1)), (low + high) / 2 + width * torch.tensor([0.5, -0.5]), atol=0.02, rtol=0
    )
    torch.testing.assert_close(near.mean((0, 1)), shown[0], atol=0.05, rtol=0)
    assert (near.std((0, 1)) / width - 0.2).abs().max() < 0.03
    # In a state where nobody's action is known there is nothing to be near to.
    assert proposals.tried(states, None, generator).actions.shape == (30, 90, 2)
    alike = proposals.tried(torch.zeros(3, 4), None, generator, alike=True).actions
    assert torch.equal(alike[0], alike[1]) and torch.equal(alike[0], alike[2])


def test_a_box_without_bounds_is_refused():
    endless = Spaces("Endless", 1, np.array([-np.inf], np.float32), np.array([1], np.float32))
    with pytest.raises(UserError, match="Endless has actions without bounds"):
        BoxProposals(endless, ProposalConfig(), None)


def test_the_clone_is_least_squares():
    """Of a = tanh(W s) + noise it finds the middle, and how much noise there is."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(4000, 3)).astype(np.float32)
    middle = np.tanh(states @ np.array([[0.5, 0.1], [-0.2, 0.3], [0.0, 0.2]], np.float32))
    noise = 0.1 * rng.normal(size=middle.shape)
    data = Transitions.from_arrays(states, middle + noise, states, np.zeros(4000))
    clone = fit_clone((data, data.batch.actions), hidden=[16], steps=1500, seed=3)
    fresh = torch.from_numpy(rng.normal(size=(500, 3)).astype(np.float32))
    wanted = torch.tanh(fresh @ torch.tensor([[0.5, 0.1], [-0.2, 0.3], [0.0, 0.2]]))
    assert (clone(fresh) - wanted).square().mean().sqrt() < 0.04
    np.testing.assert_allclose(clone.std, [0.1, 0.1], atol=0.015)
    again = fit_clone((data, data.batch.actions), hidden=[16], steps=1500, seed=3)
    assert all(
        torch.equal(a, b) for a, b in zip(clone.parameters(), again.parameters(), strict=True)
    )


def test_few_demonstrations_count_as_much_as_all_others():
    """Others are a thousand times as many and do the opposite where the demonstrations are."""
    rng = np.random.default_rng(0)

    def part(count, action):
        states = rng.normal(size=(count, 1)).astype(np.float32)
        actions = np.full((count, 1), action, np.float32)
        found = Transitions.from_arrays(states, actions, states, np.zeros(count))
        return found, found.batch.actions

    clone = fit_clone(part(20, 0.8), part(20_000, -0.4), hidden=[8], steps=500, seed=0)
    middle = clone(torch.linspace(-1, 1, 9)[:, None])
    assert (middle - 0.2).abs().max() < 0.1
    np.testing.assert_allclose(clone.std, [0.6], atol=0.05)
