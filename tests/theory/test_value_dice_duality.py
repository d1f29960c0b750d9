"""ValueDICE's inner minimum is minus the divergence of the occupancies:

    min_nu  log E_E[exp(nu - gamma P_pi nu)] - (1 - gamma) E_{s0, pi}[nu] = -KL(d_pi || d_E)

with d normalised, so that its outer maximum is d_pi = d_E. On a small MDP, with nu a table; a
deterministic successor of every pair, for the expectation over s' stands inside of the exponential.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.baselines.value_dice_learner import value_dice_objective

STATES, ACTIONS, GAMMA = 5, 2, 0.9


def occupancy(successors, initial, policy):
    """Normalised d(s, a), by the power series."""
    now, total = initial, np.zeros((STATES, ACTIONS))
    for t in range(600):
        both = now[:, None] * policy
        total += (1 - GAMMA) * GAMMA**t * both
        now = np.bincount(successors.ravel(), both.ravel(), minlength=STATES)
    return total


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    successors = rng.integers(0, STATES, (STATES, ACTIONS))
    successors[:, 0] = (np.arange(STATES) + 1) % STATES
    return successors, rng.dirichlet(np.ones(STATES)), rng


def least(successors, initial, policy, expert):
    """min over nu of J, by L-BFGS; and the log ratio that it found."""
    nu = torch.zeros(STATES, ACTIONS, dtype=torch.float64, requires_grad=True)
    pi = torch.from_numpy(policy)
    weights = torch.from_numpy(expert.ravel())

    def terms():
        following = (pi * nu).sum(1)[torch.from_numpy(successors)]  # E_{a'} inside, see below
        differences = (nu - GAMMA * following).ravel()
        # (1 - gamma) E[nu(s0, a0)], the mean over a list of one
        starts = (torch.from_numpy(initial)[:, None] * pi * nu).sum().reshape(1)
        return differences, value_dice_objective(differences, starts, GAMMA, weights)

    optimiser = torch.optim.LBFGS(
        [nu], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimiser.zero_grad()
        value = terms()[1]
        value.backward()
        return value

    optimiser.step(closure)
    differences, value = terms()
    return value.item(), differences.detach().numpy().reshape(STATES, ACTIONS)


def test_the_inner_minimum_is_the_divergence(world):
    successors, initial, rng = world
    expert = occupancy(successors, initial, rng.dirichlet(np.ones(ACTIONS), size=STATES))
    for _ in range(3):
        policy = rng.dirichlet(np.ones(ACTIONS), size=STATES)
        mine = occupancy(successors, initial, policy)
        divergence = (mine * np.log(mine / expert)).sum()
        value, ratio = least(successors, initial, policy, expert)
        assert divergence > 1e-2
        assert value == pytest.approx(-divergence, abs=1e-6)
        # The minimiser is the log ratio up to a constant.
        assert np.ptp(ratio - np.log(mine / expert)) < 1e-3


def test_at_the_expert_it_is_zero_and_nowhere_above(world):
    successors, initial, rng = world
    shown = rng.dirichlet(np.ones(ACTIONS), size=STATES)
    expert = occupancy(successors, initial, shown)
    assert least(successors, initial, shown, expert)[0] == pytest.approx(0, abs=1e-7)


def test_weights_are_a_distribution_over_the_batch():
    differences, starts = torch.randn(6), torch.randn(3)
    even = value_dice_objective(differences, starts, 0.9)
    by_hand = differences.exp().mean().log() - 0.1 * starts.mean()
    torch.testing.assert_close(even, by_hand)
    torch.testing.assert_close(
        value_dice_objective(differences, starts, 0.9, torch.full((6,), 1 / 6)), even
    )
