"""Thesis Table 4.1: DPO's infimum does not say where the mass goes; the regularised optimum does.

pi_ref = (.5, .5, 0) and one pair, y1 over y2. DPO loses log(1 + (pi_2 / pi_1)^beta), which tends
to 0 with pi_2 for any pi_1 = a > 0. So every (a, 0, 1 - a) attains the infimum, and y3, which the
reference never says, may take the rest. pi_ref exp(r / beta) / Z stays on the support.
"""

from __future__ import annotations

import pytest
import torch

from irl_align.core.objectives import bradley_terry

REFERENCE = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
BETA = 0.1


def dpo_loss(policy: torch.Tensor) -> float:
    chosen, rejected = (BETA * (policy[i] / REFERENCE[i]).log() for i in (0, 1))
    return float(bradley_terry(chosen[None], rejected[None]))


@pytest.mark.parametrize("a", [1e-3, 0.1, 0.5, 0.9])
def test_every_policy_without_the_rejected_answer_attains_the_infimum(a):
    losses = [
        dpo_loss(torch.tensor([a, tiny, 1 - a - tiny], dtype=torch.float64))
        for tiny in (1e-4, 1e-20, 1e-60, 1e-200)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-8


def test_the_regularised_optimum_is_the_preferred_answer():
    """The Bradley-Terry reward of one certain pair is unbounded; in the limit (1, 0, 0)."""
    for gap, left in ((1.0, 1e-4), (10.0, 1e-40)):
        reward = torch.tensor([gap, 0.0, 0.0], dtype=torch.float64)
        optimum = REFERENCE * torch.exp(reward / BETA)
        optimum = optimum / optimum.sum()
        assert optimum[2] == 0
        assert 1 - float(optimum[0]) < left
