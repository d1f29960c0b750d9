"""Adam (Kingma & Ba 2015) on lists of tensors, in place.

Not `torch.optim`: its state would hide the moments from a compiled step, and eagerly a fused kernel
over all tensors is all of the optimiser that a small network can afford.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class Moments:
    """Running means of gradient and squared gradient, one tensor for each parameter."""

    first: list[Tensor]
    second: list[Tensor]
    count: Tensor  # [], steps taken; a tensor, or every step would be compiled anew

    @classmethod
    def of(cls, parameters: Sequence[Tensor]) -> Moments:
        """Zeros for `parameters`."""
        with torch.no_grad():
            return cls(
                [torch.zeros_like(p) for p in parameters],
                [torch.zeros_like(p) for p in parameters],
                torch.zeros(()),
            )

    def state_dict(self) -> dict[str, Any]:
        """Copies, ready to be saved."""
        return {
            "first": [tensor.clone() for tensor in self.first],
            "second": [tensor.clone() for tensor in self.second],
            "count": self.count.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for mine, saved in (
            (self.first, state["first"]),
            (self.second, state["second"]),
            ([self.count], [state["count"]]),
        ):
            for tensor, value in zip(mine, saved, strict=True):
                tensor.copy_(value)


@torch.no_grad()
def adam_(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], moments: Moments, lr: float
) -> None:
    """One step, as `torch.optim.Adam` takes it."""
    moments.count.add_(1.0)
    if not torch.compiler.is_compiling():
        torch._fused_adam_(
            list(parameters),
            list(gradients),
            moments.first,
            moments.second,
            [],
            [moments.count] * len(moments.first),
            lr=lr,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
        return
    # Spelled out, because a compiler merges plain arithmetic with what surrounds it.
    step = lr / (1.0 - BETA1**moments.count)
    scale = torch.rsqrt(1.0 - BETA2**moments.count)
    for p, g, m, v in zip(parameters, gradients, moments.first, moments.second, strict=True):
        m.lerp_(g, 1.0 - BETA1)
        v.mul_(BETA2).addcmul_(g, g, value=1.0 - BETA2)
        p.sub_(step * m / (v.sqrt() * scale + EPSILON))
