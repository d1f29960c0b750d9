"""One update of all members at once, as a function over tensors that are changed in place.

    loss_k = mean_{B, O}[(mean - y)^2 exp(-log var) + log var]
             + 0.01 (sum max_log_var - sum min_log_var) + sum_l c_l |W_l|^2 / 2

Twice the negative log likelihood, but for constants. The members' losses are added up, which
trains each of them alone (see `network`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from irl_align.control.sac.adam import Moments, adam_
from irl_align.control.sac.compiling import machine_code
from irl_align.control.world_model.network import GaussianEnsemble

_BOUNDS = 0.01


class Settings(NamedTuple):
    """Numbers that stay the same over a fit; a compiled step has them built in."""

    learning_rate: float
    decay: tuple[float, ...]  # c of each layer
    inputs: int  # columns of a row that are inputs; the others are targets


Update = Callable[[GaussianEnsemble, Moments, Settings, Tensor], Tensor]


def gaussian_losses(mean: Tensor, log_var: Tensor, targets: Tensor) -> Tensor:
    """[K] of [K, B, O] each."""
    return ((mean - targets).square() * torch.exp(-log_var) + log_var).mean(dim=(1, 2))


def update(
    ensemble: GaussianEnsemble, moments: Moments, settings: Settings, rows: Tensor
) -> Tensor:
    """One Adam step on rows [K, B, inputs + O], a batch for each member; returns losses [K],
    penalties left out."""
    mean, log_var = ensemble(rows[..., : settings.inputs])
    losses = gaussian_losses(mean, log_var, rows[..., settings.inputs :])
    total = losses.sum() + _BOUNDS * (ensemble.max_log_var.sum() - ensemble.min_log_var.sum())
    for layer, decay in zip(ensemble.layers, settings.decay, strict=True):
        total = total + 0.5 * decay * layer.weight.square().sum()
    weights = list(ensemble.parameters())
    adam_(weights, torch.autograd.grad(total, weights), moments, settings.learning_rate)
    return losses.detach()


def compiled_update() -> Update:
    """`update` as machine code; see `sac.compiling`. Rows must be contiguous."""
    return _of_its_kind


def _of_its_kind(
    ensemble: GaussianEnsemble, moments: Moments, settings: Settings, rows: Tensor
) -> Tensor:
    kind = ensemble.members, ensemble.sizes, ensemble.activation, settings, rows.shape
    return _compiled(kind, torch.get_num_threads())(ensemble, moments, settings, rows)


@functools.cache
def _compiled(*kind: Hashable) -> Update:
    return machine_code(update)
