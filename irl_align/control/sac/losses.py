"""The three losses of SAC as functions of tensors, and the target that they share.

    y    = r + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a'|s')),   a' ~ pi(.|s')
    L_Q  = sum_i E[(Q_i(s, a) - y)^2]
    L_pi = E[alpha log pi(a~|s) - min_i Q_i(s, a~)],                       a~ ~ pi(.|s)
    L_al = -log(alpha) E[log pi(a~|s) + H],                                H the target entropy

`weights` [B] leave rows out of an expectation over actions: in an absorbing state there is no
choice to learn (see `step`).
"""

from __future__ import annotations

from torch import Tensor


def bellman_target(
    rewards: Tensor,
    terminated: Tensor,
    next_values: Tensor,
    next_log_probs: Tensor,
    alpha: Tensor,
    gamma: float,
) -> Tensor:
    """y [B]; all arguments [B] but alpha []. `terminated` is 0 at a time limit: it bootstraps."""
    return rewards + gamma * (1.0 - terminated) * (next_values - alpha * next_log_probs)


def critic_loss(values: Tensor, target: Tensor) -> Tensor:
    """Q_i(s, a) [2, B] against y [B]: the sum of the critics' mean squared errors []."""
    return (values - target).square().mean(dim=-1).sum()


def actor_loss(
    log_probs: Tensor, values: Tensor, alpha: Tensor, weights: Tensor | None = None
) -> Tensor:
    """E[alpha log pi - min Q] [] of log_probs [B] and values = min_i Q_i(s, a~) [B]."""
    return _mean(alpha * log_probs - values, weights)


def temperature_loss(
    log_alpha: Tensor, log_probs: Tensor, target_entropy: float, weights: Tensor | None = None
) -> Tensor:
    """-log(alpha) E[log pi + H] []: alpha grows while the entropy is below its target."""
    return -log_alpha * _mean(log_probs + target_entropy, weights)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean()
    return (values * weights).sum() / weights.sum().clamp(min=1.0)
