from __future__ import annotations

import math

import torch

from irl_align.control.sac.losses import (
    actor_loss,
    bellman_target,
    critic_loss,
    temperature_loss,
)


def test_the_target_by_hand():
    found = bellman_target(
        torch.tensor([1.0, 1.0]),
        torch.tensor([0.0, 1.0]),  # the second step ended its episode for good
        torch.tensor([2.0, 2.0]),
        torch.tensor([-3.0, -3.0]),
        torch.tensor(0.5),
        0.9,
    )
    torch.testing.assert_close(found, torch.tensor([1 + 0.9 * (2 + 0.5 * 3), 1.0]))


def test_the_critics_loss_is_the_sum_of_their_mean_squares():
    values = torch.tensor([[1.0, 2.0], [0.0, 5.0]])
    assert critic_loss(values, torch.tensor([0.0, 2.0])).item() == 0.5 + 4.5


def test_expectations_over_actions_leave_rows_without_weight_out():
    log_probs, values = torch.tensor([1.0, 100.0]), torch.tensor([4.0, -7.0])
    first = torch.tensor([1.0, 0.0])
    assert actor_loss(log_probs, values, torch.tensor(0.5), first).item() == 0.5 - 4
    assert actor_loss(log_probs, values, torch.tensor(0.5)).item() == (0.5 - 4 + 50 + 7) / 2
    assert actor_loss(log_probs, values, torch.tensor(0.5), torch.zeros(2)).item() == 0
    assert temperature_loss(torch.tensor(2.0), log_probs, -3.0, first).item() == -2 * (1 - 3)


def test_alpha_grows_when_the_entropy_is_too_low():
    log_alpha = torch.tensor(0.0, requires_grad=True)
    low_entropy = torch.full((5,), 4.0)  # entropy -4, below the target -1
    temperature_loss(log_alpha, low_entropy, -1.0).backward()
    assert log_alpha.grad.item() < 0  # descent raises it
    assert math.isclose(log_alpha.grad.item(), -(4 - 1))
