"""The critics' loss of IQ-Learn (Garg et al. 2021), with a chi-square regulariser.

    r_i  = Q_i(s, a) - gamma (1 - d) V_i(s'),    V_i(s) = Q_i(s, a~) - alpha log pi(a~|s)
    loss = -E_E[r_i] + value_i + E[r_i^2] / (4 chi)           averaged over the two critics

where `value_i` estimates (1 - gamma) E_{s0}[V_i(s0)], one of

    value           E_{E and pi}[V_i(s) - gamma (1 - d) V_i(s')]
    value_expert    E_E[V_i(s) - gamma (1 - d) V_i(s')]
    v0              (1 - gamma) E_{s0}[V_i(s0)]

Every critic has a V of its own. With the smaller critic's V for both, that critic alone would be
pushed down by `value`, with twice the weight at which the demonstrations pull it up, and sink.

It is the negative of the paper's J(Q) with phi(r) = r - r^2 / (4 chi). With phi(r) = r its optimum
is the reward under which the demonstrator is soft-optimal; a finite chi bounds that reward, which
then is 2 chi (1 - rho_pi / rho_E) where the demonstrator goes.

The square is taken over the demonstrations (the divergence of the paper) or over both halves of a
batch (what its experiments on robots do, since it holds Q down where nobody has been, too).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from irl_align.control.buffers import Batch
from irl_align.control.sac.step import CriticLoss, Parts, Settings

Value = Literal["value", "value_expert", "v0"]
Squared = Literal["expert", "both"]


def iq_objective(
    q: Tensor,
    next_value: Tensor,
    demonstrated: Tensor,
    value: Tensor,
    *,
    chi: float | None,
    squared: Squared,
) -> Tensor:
    """The loss above [].

    Args:
        q: Q_i(s, a) [2, B].
        next_value: gamma (1 - d) V_i(s') [2, B].
        demonstrated: 1 for the demonstrator's transitions, 0 for the agent's [B].
        value: the estimate of (1 - gamma) E[V_i(s0)], averaged over the critics [].
        chi: None leaves the square out.
        squared: where it is averaged.
    """
    rewards = q - next_value  # [2, B]
    loss = value - expert_mean(rewards, demonstrated).mean()
    if chi is None:
        return loss
    squares = rewards.square()
    if squared == "expert":
        return loss + expert_mean(squares, demonstrated).mean() / (4 * chi)
    return loss + squares.mean() / (4 * chi)


def expert_mean(x: Tensor, demonstrated: Tensor) -> Tensor:
    """E_E[x]: [..., B] and [B] -> [...]."""
    return (x * demonstrated).sum(dim=-1) / demonstrated.sum()


def iq_loss(
    kind: Value,
    *,
    starts: Tensor,
    chi: float | None = 0.5,
    squared: Squared = "both",
    target: bool = False,
) -> CriticLoss:
    """The loss for `SAC`, whose rewards are the marks of `HalfDemonstrations`.

    Args:
        starts: [N, O], states in which episodes begin, for `v0`: of the demonstrations, which is
            all that is known of them before the agent acts.
        target: V_i(s') of the target critics, without a gradient. The paper's derivation has none;
            it is for tasks on which the loss runs away.
    """

    def function(
        parts: Parts,
        settings: Settings,
        batch: Batch,
        rewards: Tensor,
        noise: Tensor,
        alpha: Tensor,
    ) -> Tensor:
        states, following, size = batch.observations, batch.next_observations, len(rewards)
        # All that the critics are asked goes through them at once: s, a; s, a~; s', a'; s0, a0.
        parts_of = [states] if target else [states, following]
        noises = [noise[0]] if target else [noise[0], noise[1]]
        if kind == "v0":
            parts_of.append(starts)
            copies = -(-len(starts) // size)
            noises.append(noise[2].repeat(copies, 1)[: len(starts)])
        wanted = torch.cat(parts_of)
        actions, entropies = _drawn(parts, settings, wanted, torch.cat(noises), alpha)
        q = parts.critic(torch.cat([states, wanted]), torch.cat([batch.actions, actions]))
        values = q[:, size:] + entropies  # [2, ...]
        if target:
            with torch.no_grad():
                chosen, bonus = _drawn(parts, settings, following, noise[1], alpha)
                next_value = parts.target(following, chosen) + bonus
        else:
            next_value = values[:, size : 2 * size]
        next_value = settings.gamma * (1.0 - batch.terminated) * next_value
        if kind == "v0":
            value = (1.0 - settings.gamma) * values[:, -len(starts) :].mean()
        elif kind == "value":
            value = (values[:, :size] - next_value).mean()
        else:
            value = expert_mean(values[:, :size] - next_value, rewards).mean()
        return iq_objective(q[:, :size], next_value, rewards, value, chi=chi, squared=squared)

    return CriticLoss(function, draws=3 if kind == "v0" else 2)


@torch.no_grad()
def _drawn(
    parts: Parts, settings: Settings, observations: Tensor, noise: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """a ~ pi(.|s) [B, A] and -alpha log pi(a|s) [B]; 0 and 0 in absorbing states."""
    actions, log_probs = parts.actor.sample(observations, noise)
    bonus = -alpha * log_probs
    if settings.absorbing:
        going = 1.0 - observations[:, -1]
        actions, bonus = actions * going[:, None], bonus * going
    return actions, bonus
