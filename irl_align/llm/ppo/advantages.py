"""From scores to advantages: rewards per token, generalised advantages, masked statistics.

Everything is [B, T]: B answers, T tokens, right-padded; `mask` is 1 on the answer's tokens (its end
token included) and 0 behind them, and no answer is empty.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["generalised_advantages", "masked_mean", "masked_whiten", "token_rewards"]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that count, a scalar."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def masked_whiten(values: Tensor, mask: Tensor, *, shift: bool = True) -> Tensor:
    """`values` with variance 1 over the tokens that count, and mean 0 unless `shift` is off (then
    the mean stays). Tokens behind an answer become 0."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened if shift else whitened + mean) * mask


def token_rewards(
    scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """r_t = -beta (log pi - log pi_ref)(y_t), and the score [B] on the answer's last token; [B, T].

    Summed over an answer: score - beta log pi(y)/pi_ref(y), whose mean under pi is what PPO
    maximises, E score - beta KL(pi || pi_ref).
    """
    rewards = -beta * (logprobs - reference_logprobs) * mask
    last = mask.sum(1).long() - 1  # [B]
    return rewards.scatter_add(1, last[:, None], scores[:, None].to(rewards.dtype))


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, gae_lambda: float = 0.95
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), both [B, T] and 0 behind the answers (Schulman et al. 2016, eq. 16).

    `values[:, t]` is the value of the state in which token t is chosen. The state behind an
    answer's last token has value 0, whether the answer ended itself or was cut off: nothing is paid
    there. Returns are advantages + values, the value model's targets.
    """
    advantages = torch.zeros_like(rewards)
    ahead = torch.zeros_like(rewards[:, 0])  # [B]: advantage of the next token
    next_value = torch.zeros_like(ahead)
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        error = rewards[:, t] + gamma * next_value - values[:, t]
        ahead = (error + gamma * gae_lambda * ahead) * here
        next_value = values[:, t] * here
        advantages[:, t] = ahead
    return advantages, (advantages + values) * mask
