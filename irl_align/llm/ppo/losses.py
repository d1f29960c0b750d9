"""The clipped losses of PPO (Schulman et al. 2017, eq. 7), per token [B, T], not averaged."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["clipped_policy_loss", "clipped_value_loss", "importance_weights"]


def clipped_policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """(loss, clipped): -min(rho A, clip(rho, 1 - clip, 1 + clip) A) with rho = pi / pi_old, and
    where the clipped branch is the one that counts (no gradient there)."""
    ratio = torch.exp(logprobs - old_logprobs)
    plain = ratio * advantages
    held = ratio.clamp(1 - clip, 1 + clip) * advantages
    return -torch.minimum(plain, held), held < plain


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None
) -> Tensor:
    """(V - R)^2 / 2, or the larger of it and of the same for V held within `clip` of its old value;
    `clip` None: never held."""
    loss = 0.5 * (values - returns) ** 2
    if clip is None:
        return loss
    held = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(loss, 0.5 * (held - returns) ** 2)


def importance_weights(old_logprobs: Tensor, engine_logprobs: Tensor, cap: float) -> Tensor:
    """min(pi_old / pi_engine, cap): what makes up for an engine whose numbers are not quite the
    trainer's (truncated importance sampling: the cap bounds the variance)."""
    return torch.exp(old_logprobs - engine_logprobs).clamp(max=cap)
