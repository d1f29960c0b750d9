"""A fine-tuned model as an adapter on the model that it was tuned from.

Reward models are saved whole, so that anybody can load them. Where one was fitted by LoRA, its
weights still are base + a matrix of low rank, and that matrix is found again by a singular value
decomposition: exactly, up to the rounding of the saved weights. Policy, value model, reward model
and reference can then live on one base in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LowRankUpdate", "NotLowRank", "low_rank_update"]

# Rounding of float32 weights leaves about 1e-7 of a weight's size; an adapter moves it by 1e-3 or
# more. Whatever is left behind the rank asked for must be as small as rounding.
_ROUNDING = 1e-5


class NotLowRank(ValueError):
    """The difference is no adapter: a layer moved by more than the rank allows."""


@dataclass(frozen=True)
class LowRankUpdate:
    """tuned = base + up[name] @ down[name] for each layer `name`; all other weights are equal.

    `down[name]` is [rank, in], `up[name]` is [out, rank], float32; the rank is the same everywhere
    (layers that need less are filled up with 0).
    """

    rank: int
    down: dict[str, Tensor]
    up: dict[str, Tensor]


def low_rank_update(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], max_rank: int = 256
) -> LowRankUpdate:
    """What `tuned` adds to `base`; both map names of parameters to weights of equal shapes.

    A layer's name is its parameter's without ".weight". Raises :class:`NotLowRank` when names or
    shapes differ, when something other than a matrix moved, or when a matrix moved in more than
    `max_rank` directions, or in more than half of all.
    """
    if set(base) != set(tuned):
        odd = sorted(set(base) ^ set(tuned))[0]
        raise NotLowRank(f"{odd} is in one of the models only")
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, weight in tuned.items():
        before, after = base[name].detach().float(), weight.detach().float()
        if before.shape != after.shape:
            raise NotLowRank(f"{name} has other shapes: {[*before.shape]}, {[*after.shape]}")
        difference = after - before
        size = float(before.abs().max())
        if float(difference.abs().max()) <= _ROUNDING * max(size, 1e-3):
            continue
        if difference.dim() != 2 or not name.endswith(".weight"):
            raise NotLowRank(f"{name} moved, which no adapter does")
        factors[name.removesuffix(".weight")] = _factorise(name, difference, size, max_rank)
    rank = max((down.shape[0] for down, _ in factors.values()), default=1)
    return LowRankUpdate(
        rank,
        {name: _fill(down, rank, 0) for name, (down, _) in factors.items()},
        {name: _fill(up, rank, 1) for name, (_, up) in factors.items()},
    )


def _factorise(name: str, difference: Tensor, size: float, max_rank: int) -> tuple[Tensor, Tensor]:
    """(down [r, in], up [out, r]) of one layer, with the smallest r that leaves only rounding."""
    wanted = min(max_rank, min(difference.shape) // 2)  # above, factors are no saving
    if min(difference.shape) <= 4 * max_rank:
        left, singular, right = torch.linalg.svd(difference, full_matrices=False)
    else:  # Halko et al. 2011: exact where the rank is within q
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, singular, columns = torch.svd_lowrank(difference, q=wanted + 8, niter=2)
        right = columns.T
    # Rounding noise of n x m entries of size e has singular values of about e (sqrt n + sqrt m).
    noise = 2.0**-23 * size * sum(n**0.5 for n in difference.shape)
    rank = int((singular > 4 * noise).sum())
    if rank > wanted:
        raise NotLowRank(f"{name} moved in more than {wanted} directions")
    root = singular[:rank].sqrt()
    down, up = root[:, None] * right[:rank], left[:, :rank] * root
    rest = float((difference - up @ down).abs().max())
    if rest > _ROUNDING * max(size, 1e-3):
        raise NotLowRank(f"{name}: {rest:.2g} is left behind {rank} directions")
    return down.contiguous(), up.contiguous()


def _fill(factor: Tensor, rank: int, dimension: int) -> Tensor:
    missing = rank - factor.shape[dimension]
    shape = list(factor.shape)
    shape[dimension] = missing
    return torch.cat([factor, factor.new_zeros(shape)], dim=dimension)
