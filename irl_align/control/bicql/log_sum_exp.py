"""V(s) = log int exp Q(s, a) da, and how far the sample that it is estimated from can be trusted.

    V_hat(s) = log (1/M) sum_j exp(Q(s, a_j)) / q(a_j),       a_j ~ q

with log w_j = -log q(a_j) - log M it is log sum_j exp(Q_j + log w_j). The 1/M belongs to it: in a
Bellman target a missing log M would be a reward of (1 - gamma) log M for every step. For actions
that are indices all of them are tried, every log w is 0, and the same formula is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tried(NamedTuple):
    """Actions for each of B states, and what each stands for."""

    actions: Tensor  # [B, M, A] in the environment's units; [B, M, 0] where all indices are tried
    log_weights: Tensor  # [B, M], log w


def soft_value(values: Tensor, log_weights: Tensor) -> Tensor:
    """V [..., B] of Q at the tried actions [..., B, M] and their log w [B, M]."""
    return torch.logsumexp(values + log_weights, dim=-1)


def effective_share(values: Tensor, log_weights: Tensor) -> Tensor:
    """(sum w)^2 / (M sum w^2) [..., B] with w = exp(Q + log w), in [1 / M, 1].

    1 where every action counts alike; 1 / M where a single one makes the whole estimate.
    """
    weights = torch.softmax(values + log_weights, dim=-1)
    return 1.0 / (weights.square().sum(dim=-1) * values.shape[-1])
