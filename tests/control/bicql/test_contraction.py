"""The gains of a round, on levels whose derivatives are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.bicql.contraction import round_gains
from irl_align.tabular.bicql import BiCQLSettings, Levels
from irl_align.tabular.mdp import make_mdp


def linear(lower, upper):
    start = torch.zeros(lower.shape[0], dtype=torch.float64)
    return {
        "lower": lambda theta: start + lower @ theta,
        "upper": lambda phi: upper @ phi,
        "rewards": lambda theta: theta,
        "values": lambda phi: phi,
    }


def test_a_power_iteration_over_rounds_finds_what_is_amplified_most():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    product = basis @ np.diag([0.9, -0.5, 0.3, 0.2, 0.1, 0.05]) @ basis.T
    lower = torch.from_numpy(rng.normal(size=(6, 6)))
    upper = torch.from_numpy(product) @ torch.linalg.inv(lower)
    theta = torch.from_numpy(rng.normal(size=6))
    direction = torch.from_numpy(rng.normal(size=6))
    for number in range(40):
        gains = round_gains(theta, direction, 0.1, **linear(lower, upper))
        direction = gains.direction
        if not number:
            assert gains.product < 0.85
    assert gains.product == pytest.approx(0.9, rel=1e-3)
    assert abs(float(direction @ torch.from_numpy(basis[:, 0]))) == pytest.approx(1, abs=1e-3)
    along = lower @ direction
    assert gains.l_q == pytest.approx(float(along.norm() / direction.norm()), rel=1e-6)
    assert gains.l_ml == pytest.approx(0.9 / gains.l_q, rel=1e-3)


def test_the_size_is_that_of_the_reward_s_change():
    seen = []
    levels = linear(2 * torch.eye(3), torch.eye(3))
    levels["lower"] = lambda theta: seen.append(theta) or 2 * theta
    levels["rewards"] = lambda theta: 7 * theta
    gains = round_gains(torch.zeros(3), torch.ones(3), 0.4, **levels)
    assert (7 * seen[-1]).square().mean().sqrt().item() == pytest.approx(0.4, rel=1e-5)
    assert gains.l_q == pytest.approx(2 / 7) and gains.l_ml == pytest.approx(7)


def test_a_change_that_changes_nothing():
    levels = linear(torch.eye(3), torch.eye(3))
    levels["rewards"] = lambda theta: torch.zeros(4)
    gains = round_gains(torch.zeros(3), torch.ones(3), 0.1, **levels)
    assert (gains.l_q, gains.l_ml, gains.product) == (0, 0, 0)
    assert torch.isfinite(gains.direction).all()


@pytest.mark.parametrize(("alpha", "l2"), [(0.02, 0.0), (2.0, 0.0), (0.02, 0.5)])
def test_on_exact_levels_two_things_contract(alpha, l2):
    """A table, both levels solved: without the conservative term r -> Q*(r) -> A(Q) is the
    identity and the gain is 1. The term shrinks changes of the policy; shaping it hands on as it
    is. E[r^2] divides all of them by 1 + l2."""
    rng = np.random.default_rng(0)
    mdp = make_mdp(rng.dirichlet(np.ones(3), size=(3, 2)), 0.8)
    levels = Levels(mdp, np.ones((3, 2)), np.ones((3, 2)), BiCQLSettings(alpha=alpha))

    def lower(theta):
        q, reward = np.zeros((3, 2)), theta.numpy().reshape(3, 2)
        for _ in range(4000):
            q = q - 0.5 * levels.lower_gradient(q, levels.target(reward, q))
        return torch.from_numpy(q.ravel())

    def upper(phi):
        q = phi.numpy().reshape(3, 2)
        return torch.from_numpy(levels.advantage(q, q).ravel()) / (1 + l2)

    parts = {"lower": lower, "upper": upper, "rewards": lambda r: r, "values": lambda q: q}
    theta = torch.zeros(6, dtype=torch.float64)
    against = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)
    gains = round_gains(theta, against, 0.01, **parts)
    if alpha < 0.1:
        assert gains.product == pytest.approx(1 / (1 + l2), abs=0.05)
    else:
        assert gains.product < 0.6
