"""One update of the lower level as a function of tensors that change in place.

    L_i = E_B[(Q_i(s, a) - y)^2] + alpha (E_m(s)[V_i(s)] - E_m[Q_i(s, a~)])
    y   = r + gamma (1 - d) V'(s'),     V' the soft value of min_i Q'_i,     V_i that of Q_i

with B half D_E, half D, m = w_E D_E + (1 - w_E) D, and a~ the data's action or one close to it.
Rewards, a~ and the actions that soft values are taken over come in as arguments: none depends on Q.
So there are no random numbers in here, and the compiled function and this one give the same
numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from irl_align.control.bicql.critics import Critic
from irl_align.control.bicql.log_sum_exp import effective_share, soft_value
from irl_align.control.buffers import Layout
from irl_align.control.sac.adam import Moments, adam_
from irl_align.control.sac.compiling import machine_code

LOSSES = (
    *("critic_loss", "bellman_error", "gap", "alpha", "q_expert", "q_data"),
    "effective_share",
)


class Settings(NamedTuple):
    """Numbers that stay the same over a run; a compiled update has them built in."""

    gamma: float
    tau: float
    learning_rate: float
    gradient_clip: float | None
    expert_weight: float
    over_mixture: bool  # soft values over m's states; else over D's
    target_gap: float | None  # None: alpha is fixed
    alpha_learning_rate: float
    alpha_max: float


@dataclass
class Parts:
    """What an update reads and changes."""

    critic: Critic
    target: Critic
    log_alpha: Tensor  # []
    critic_moments: Moments
    alpha_moments: Moments


def asked(settings: Settings, half: int) -> slice:
    """The rows of a batch (first half D_E, second half D) whose states have a soft value in L."""
    if not settings.over_mixture or settings.expert_weight == 0:
        return slice(half, 2 * half)
    return slice(0, half) if settings.expert_weight == 1 else slice(0, 2 * half)


def update(
    parts: Parts,
    settings: Settings,
    layout: Layout,
    rows: Tensor,
    rewards: Tensor,
    raised: Tensor,
    here_actions: Tensor,
    here_weights: Tensor,
    there_actions: Tensor,
    there_weights: Tensor,
) -> Tensor:
    """One update.

    Args:
        rows: [2 B, width], first B of D_E, then B of D.
        rewards: [2 B], of these transitions.
        raised: a~ [2 B, A].
        here_actions, here_weights: `Tried` in the states of `asked` rows.
        there_actions, there_weights: `Tried` in all next states.

    Returns [7]: `LOSSES` before the update. `gap` is what alpha multiplies, a mean over critics;
    `effective_share` that of the smaller critic.
    """
    batch = layout.unpack(rows)
    half = rows.shape[0] // 2
    where = asked(settings, half)
    alpha = parts.log_alpha.exp()
    with torch.no_grad():
        following = parts.target.spread(batch.next_observations, there_actions).amin(dim=0)
        going = settings.gamma * (1.0 - batch.terminated)
        target = rewards + going * soft_value(following, there_weights)  # [2 B]

    q = parts.critic(batch.observations, batch.actions)  # [K, 2 B]
    spread = parts.critic.spread(batch.observations[where], here_actions)  # [K, R, M]
    soft = soft_value(spread, here_weights)  # [K, R]
    lifted = _mixed(parts.critic(batch.observations, raised), settings.expert_weight, half)
    gap = _over_states(soft, settings, half) - lifted  # [K]
    bellman = (q - target).square().mean(dim=-1).sum()
    loss = bellman + alpha * gap.sum()

    weights: list[Tensor] = list(parts.critic.parameters())
    gradients = list(torch.autograd.grad(loss, weights))
    if settings.gradient_clip is not None:
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        shorter = (settings.gradient_clip / (norm + 1e-6)).clamp(max=1.0)
        gradients = [g * shorter for g in gradients]
    adam_(weights, gradients, parts.critic_moments, settings.learning_rate)

    with torch.no_grad():
        if settings.target_gap is not None:
            # Dual ascent: alpha grows while the gap is wider than wanted.
            slope = settings.target_gap - gap.mean()
            adam_([parts.log_alpha], [slope], parts.alpha_moments, settings.alpha_learning_rate)
            parts.log_alpha.clamp_(max=math.log(settings.alpha_max))
        slow: list[Tensor] = list(parts.target.parameters())
        torch._foreach_lerp_(slow, weights, settings.tau)
        least = q.amin(dim=0)
        share = effective_share(spread.amin(dim=0), here_weights).mean()
        members = q.shape[0]
        measured = [loss, bellman / members, gap.mean(), alpha, least[:half].mean()]
        return torch.stack([*measured, least[half:].mean(), share])


def _mixed(values: Tensor, weight: float, half: int) -> Tensor:
    """E_m of [K, 2 B]: [K]."""
    if weight == 1:
        return values[:, :half].mean(dim=-1)
    if weight == 0:
        return values[:, half:].mean(dim=-1)
    expert, data = values[:, :half].mean(dim=-1), values[:, half:].mean(dim=-1)
    return weight * expert + (1.0 - weight) * data


def _over_states(soft: Tensor, settings: Settings, half: int) -> Tensor:
    """The mean of soft values of the asked rows [K, R]: [K]."""
    if soft.shape[-1] == half:
        return soft.mean(dim=-1)
    return _mixed(soft, settings.expert_weight, half)


def compiled_update(parts: Parts, settings: Settings, layout: Layout, *tensors: Tensor) -> Tensor:
    """`update` as machine code, which all learners of one shape and setting share."""
    moments = parts.critic_moments.first
    activation = parts.critic.net._activate
    kind = type(parts.critic), activation, *(tensor.shape for tensor in moments)
    shapes = tuple(tensor.shape for tensor in tensors)
    function = _compiled(kind, settings, layout, shapes, torch.get_num_threads())
    return function(parts, settings, layout, *tensors)


@functools.cache
def _compiled(*kind: Hashable) -> Callable[..., Tensor]:
    return machine_code(update)
