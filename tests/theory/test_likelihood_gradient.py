"""Lemma 17 in its bandit form: grad L = E_D[grad r] - E_{pi_r}[grad r] (over beta)."""

from __future__ import annotations

import pytest
import torch

from irl_align.core.objectives import contrast


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_contrast_gradient_against_finite_differences(bandit, seed, beta):
    problem = bandit(seed)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    theta = torch.randn(5, generator=generator, dtype=torch.float64)

    def reward(theta: torch.Tensor) -> torch.Tensor:
        return torch.tanh(features @ theta)  # nonlinear on purpose  # [A]

    def likelihood(theta: torch.Tensor) -> torch.Tensor:
        return (problem.demo * problem.policy_of(reward(theta), beta).log()).sum()

    policy = problem.policy_of(reward(theta), beta)
    variable = theta.clone().requires_grad_(True)
    scores = 8 * reward(variable)  # the mean over 8 responses of 8 p(y) r(y) is E_p r
    loss = contrast(problem.demo * scores, policy * scores)
    (found,) = torch.autograd.grad(loss, variable)

    step = 1e-5
    expected = torch.stack(
        [
            (likelihood(theta + step * e) - likelihood(theta - step * e)) / (2 * step)
            for e in torch.eye(5, dtype=torch.float64)
        ]
    )
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(-found / beta, expected, rtol=1e-7, atol=1e-9)
