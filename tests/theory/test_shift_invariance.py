"""Pair objectives compare answers to one prompt: adding f(x) to the reward changes nothing."""

from __future__ import annotations

import pytest
import torch

from irl_align.core.objectives import (
    bradley_terry,
    contrast,
    pairwise_logistic,
    residual_logistic,
)

PREVIOUS = torch.randn(2, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
PAIR_LOSSES = {
    "contrast": contrast,
    "pairwise_logistic": lambda d, s: pairwise_logistic(d, s, beta=0.5),
    "residual_logistic": lambda d, s: residual_logistic(d, s, *PREVIOUS, beta=0.5),
    "bradley_terry": bradley_terry,
}


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_loss_and_gradient_ignore_a_shift_per_prompt(name):
    generator = torch.Generator().manual_seed(3)
    demo, sample, shift = torch.randn(3, 16, generator=generator, dtype=torch.float64)

    def value_and_gradient(f_x):
        d, s = demo.clone().requires_grad_(True), sample.clone().requires_grad_(True)
        loss = PAIR_LOSSES[name](d + f_x, s + f_x)
        return loss, torch.stack(torch.autograd.grad(loss, (d, s), retain_graph=True))

    plain, plain_gradient = value_and_gradient(torch.zeros(16, dtype=torch.float64))
    shifted, shifted_gradient = value_and_gradient(100 * shift)
    torch.testing.assert_close(plain, shifted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(plain_gradient, shifted_gradient, rtol=1e-9, atol=1e-11)
    assert plain_gradient.abs().max() > 1e-3
    # f(x) itself gets no gradient: nothing in the data can move it.
    f_x = torch.zeros(16, dtype=torch.float64, requires_grad=True)
    loss, _ = value_and_gradient(f_x)
    (gradient,) = torch.autograd.grad(loss, f_x, allow_unused=True)
    assert gradient is None or gradient.abs().max() < 1e-15


def test_residual_ignores_a_shift_of_the_frozen_reward():
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(4, 16, generator=generator, dtype=torch.float64)
    shift = torch.randn(16, generator=generator, dtype=torch.float64)
    plain = residual_logistic(*scores)
    shifted = residual_logistic(scores[0], scores[1], scores[2] + shift, scores[3] + shift)
    torch.testing.assert_close(plain, shifted)


def test_a_shift_of_one_side_is_seen():
    demo, sample = torch.randn(2, 16, generator=torch.Generator().manual_seed(5))
    for loss in (contrast, pairwise_logistic, bradley_terry):
        assert loss(demo + 1, sample) < loss(demo, sample) - 0.1
