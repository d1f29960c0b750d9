"""One whole SAC update as a function: critics, actor, temperature, targets.

Everything that changes lies in `Parts` and changes in place; everything random comes in as an
argument. So the compiled function and this one give the same numbers, and saving `Parts` saves all.

Absorbing states (`absorbing`, flag = last number of an observation): where the flag is set the
agent has no choice. Its action is 0 and has no entropy, so that the value of being over is
r / (1 - gamma) and nothing else, and the actor and the temperature do not learn from such rows.

Demonstrations beside the transitions, if there are any, are cloned by the way: their negative
log-likelihood times `cloning` is added to the actor's loss.

What the critics minimise is an argument: a plain function (see `CriticLoss`), compiled with the
rest. Learners that differ in that loss only share everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from irl_align.control.buffers import Batch, Layout
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.critics import TwinCritic
from irl_align.control.sac.adam import Moments, adam_
from irl_align.control.sac.losses import actor_loss, bellman_target, critic_loss, temperature_loss

LOSSES = ("critic_loss", "actor_loss", "alpha", "entropy")


class Settings(NamedTuple):
    """Numbers that stay the same over a run; a compiled step has them built in."""

    gamma: float
    tau: float
    learning_rate: float
    target_entropy: float | None  # None: alpha is fixed
    absorbing: bool
    actor_learning_rate: float
    cloning: float = 0.0


@dataclass
class Parts:
    """What an update reads and changes."""

    actor: SquashedGaussianActor
    critic: TwinCritic
    target: TwinCritic
    log_alpha: Tensor  # []
    actor_moments: Moments
    critic_moments: Moments
    alpha_moments: Moments


# (parts, settings, batch, rewards [B], noise [draws + 1, B, A], alpha []) -> the critics' loss [].
# The last draw of the noise is for the actor's own loss. Only the critics' parameters take a step.
CriticFunction = Callable[[Parts, Settings, Batch, Tensor, Tensor, Tensor], Tensor]


class CriticLoss(NamedTuple):
    """What the critics minimise, and how many draws of noise [B, A] that takes."""

    function: CriticFunction
    draws: int


def temporal_difference(
    parts: Parts,
    settings: Settings,
    batch: Batch,
    rewards: Tensor,
    noise: Tensor,
    alpha: Tensor,
) -> Tensor:
    """SAC's own: squared errors against `soft_target`, with a' of noise[0]."""
    target = soft_target(parts, settings, batch, rewards, noise[0], alpha)
    return critic_loss(parts.critic(batch.observations, batch.actions), target)


TEMPORAL_DIFFERENCE = CriticLoss(temporal_difference, draws=1)


def update(
    parts: Parts,
    settings: Settings,
    layout: Layout,
    rows: Tensor,
    rewards: Tensor,
    noise: Tensor,
    critics: CriticFunction = temporal_difference,
    demonstrated: Tensor | None = None,
) -> Tensor:
    """K updates, one after the other.

    Args:
        rows: [K, B, layout.width], transitions.
        rewards: [K, B], of these transitions.
        noise: [K, draws + 1, B, A], standard normal: what `critics` takes, by default one draw for
            a', and at last a~.
        critics: the loss of the critics.
        demonstrated: [K, D, layout.width], transitions whose actions are cloned.

    Returns [4]: `LOSSES`, averaged over the K updates.
    """
    measured = [
        _update_once(
            parts,
            settings,
            layout.unpack(rows[k]),
            rewards[k],
            noise[k],
            critics,
            None if demonstrated is None else layout.unpack(demonstrated[k]),
        )
        for k in range(rows.shape[0])
    ]
    return torch.stack(measured).mean(dim=0)


def _update_once(
    parts: Parts,
    settings: Settings,
    batch: Batch,
    rewards: Tensor,
    noise: Tensor,
    critics: CriticFunction,
    demonstrated: Batch | None,
) -> Tensor:
    actor, critic = parts.actor, parts.critic
    alpha = parts.log_alpha.exp()

    loss_q = critics(parts, settings, batch, rewards, noise, alpha)
    weights = list(critic.parameters())
    adam_(
        weights, torch.autograd.grad(loss_q, weights), parts.critic_moments, settings.learning_rate
    )

    chosen = 1.0 - batch.observations[:, -1] if settings.absorbing else None  # [B]
    actions, log_probs = actor.sample(batch.observations, noise[-1])
    loss_pi = actor_loss(log_probs, critic.least(batch.observations, actions), alpha, chosen)
    if demonstrated is not None:
        likely = actor.log_prob(demonstrated.observations, demonstrated.actions)
        loss_pi = loss_pi - settings.cloning * likely.mean()
    weights = list(actor.parameters())
    adam_(
        weights,
        torch.autograd.grad(loss_pi, weights),
        parts.actor_moments,
        settings.actor_learning_rate,
    )

    with torch.no_grad():
        # The loss is linear in log(alpha), with this slope.
        slope = temperature_loss(
            torch.ones_like(alpha), log_probs, settings.target_entropy or 0.0, chosen
        )
        if settings.target_entropy is not None:
            adam_([parts.log_alpha], [slope], parts.alpha_moments, settings.learning_rate)
        parts.target.follow(critic, settings.tau)
        entropy = slope + (settings.target_entropy or 0.0)
        return torch.stack([loss_q.detach(), loss_pi.detach(), alpha, entropy])


@torch.no_grad()
def soft_target(
    parts: Parts,
    settings: Settings,
    batch: Batch,
    rewards: Tensor,
    noise: Tensor,
    alpha: Tensor,
) -> Tensor:
    """y [B] for rewards [B], with a' of noise [B, A] and the target critics."""
    actions, log_probs = parts.actor.sample(batch.next_observations, noise)
    if settings.absorbing:
        going = 1.0 - batch.next_observations[:, -1]  # [B]
        actions, log_probs = actions * going[:, None], log_probs * going
    values = parts.target.least(batch.next_observations, actions)
    return bellman_target(rewards, batch.terminated, values, log_probs, alpha, settings.gamma)
