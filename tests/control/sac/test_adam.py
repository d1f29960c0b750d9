from __future__ import annotations

import pytest
import torch

from irl_align.control.sac.adam import Moments, adam_


@pytest.mark.parametrize("compiling", [False, True])
def test_the_steps_of_torchs_adam(monkeypatch, compiling):
    """Both the fused kernel and what a compiler sees, against the textbook optimiser."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    torch.manual_seed(0)
    ours = [torch.randn(3, 2), torch.randn(4)]
    theirs = [torch.nn.Parameter(p.clone()) for p in ours]
    moments = Moments.of(ours)
    optimiser = torch.optim.Adam(theirs, lr=0.01)
    for _ in range(30):
        gradients = [torch.randn_like(p) for p in ours]
        adam_(ours, gradients, moments, 0.01)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = g.clone()
        optimiser.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other.data, atol=1e-6, rtol=1e-5)
    assert moments.count.item() == 30
