"""How unsure a world model is of a step: u(s, a) >= 0 [B], for rewards r - lambda u.

From the predictions of all K members, mu_i and sigma_i [K, B, O] of the next state in the
environment's units; norms and means are over the O numbers.

    mopo_default   max_i |sigma_i|                         aleatoric (MOPO, Yu et al. 2020)
    ensemble_var   mean_O[mean_i sigma_i^2 + var_i mu_i]   of the mixture (Lu et al. 2022)
    ensemble_std   mean_O sqrt(mean_i sigma_i^2 + var_i mu_i)
    morel          max_{i, j} |mu_i - mu_j|                disagreement (Kidambi et al. 2020)
    lompo          var_i log N(s'; mu_i, sigma_i)          of the sampled s' (Rafailov et al. 2021)
    m2ac           KL(N_c || moments of the others)        c the chosen one (Pan et al. 2020)

The last three are 0 where all members agree; the others keep the noise of the data. Spread is that
of means: taken over sampled next states, the noise would be counted twice. `mopo_paper`, the first
with the reward among the predicted numbers, is the first here: there is no reward head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Predicted(NamedTuple):
    """What the members say of B steps, and what was made of it."""

    means: Tensor  # [K, B, O]
    stds: Tensor  # [K, B, O]
    chosen: Tensor  # [B]: the member that each next state was drawn from
    sampled: Tensor  # [B, O]: that next state


def _aleatoric(p: Predicted) -> Tensor:
    return torch.linalg.vector_norm(p.stds, dim=-1).amax(dim=0)


def _mixture_variance(p: Predicted) -> Tensor:
    return p.stds.square().mean(dim=0) + p.means.var(dim=0, correction=0)  # [B, O]


def _ensemble_var(p: Predicted) -> Tensor:
    return _mixture_variance(p).mean(dim=-1)


def _ensemble_std(p: Predicted) -> Tensor:
    return _mixture_variance(p).sqrt().mean(dim=-1)


def _disagreement(p: Predicted) -> Tensor:
    worst = p.means.new_zeros(p.means.shape[1])
    for i in range(len(p.means) - 1):
        apart = torch.linalg.vector_norm(p.means[i + 1 :] - p.means[i], dim=-1)  # [K - i - 1, B]
        worst = torch.maximum(worst, apart.amax(dim=0))
    return worst


def _likelihood_variance(p: Predicted) -> Tensor:
    z = (p.sampled - p.means) / p.stds
    log_likelihood = -(0.5 * z.square() + p.stds.log() + 0.5 * math.log(2 * math.pi)).sum(dim=-1)
    return log_likelihood.var(dim=0, correction=0)


def _one_against_rest(p: Predicted) -> Tensor:
    count, index = len(p.means), p.chosen.expand(1, -1)[..., None].expand_as(p.means[:1])
    mean, std = p.means.gather(0, index)[0], p.stds.gather(0, index)[0]
    if count == 1:
        return mean.new_zeros(len(mean))
    # Moments of the others, about their own mean, which cancels less than about 0.
    others = torch.ones(count, len(mean), 1, dtype=torch.bool, device=mean.device)
    others.scatter_(0, p.chosen[None, :, None], False)
    weight = others.to(mean.dtype) / (count - 1)
    centre = (weight * p.means).sum(dim=0)
    variance = (weight * (p.stds.square() + (p.means - centre).square())).sum(dim=0)
    ratio = std.square() / variance
    divergence = ratio - 1 - ratio.log() + (mean - centre).square() / variance
    return (0.5 * divergence.sum(dim=-1)).clamp(min=0.0)  # rounding may go below


PENALTIES: dict[str, Callable[[Predicted], Tensor]] = {
    "mopo_default": _aleatoric,
    "ensemble_var": _ensemble_var,
    "ensemble_std": _ensemble_std,
    "morel": _disagreement,
    "lompo": _likelihood_variance,
    "m2ac": _one_against_rest,
}
