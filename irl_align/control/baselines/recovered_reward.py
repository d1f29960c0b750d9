"""The reward that a soft Q-function stands for, by the inverse Bellman operator (IQ-Learn, eq. 7).

    r(s, a, s', d) = Q(s, a) - gamma (1 - d) V(s')
    V(s) = E_{a ~ pi(.|s)}[Q(s, a) - alpha log pi(a|s)]

Q is the mean of the two critics: r then is the mean of the two rewards that they stand for. V is
an average over a fixed set of draws, so the same step has the same reward on every call. The reward
needs s' besides s and a: it is a function of transitions, not a `RewardNet`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.critics import TwinCritic
from irl_align.control.sac.agent import SAC
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open

# Draws that V averages over.
_DRAWS = 16


class RecoveredReward:
    """See above. It looks at the networks that it is given: it follows while they learn.

    Args:
        noise: [draws, A], standard normal.
        absorbing: the last number of an observation is the absorbing flag; there the action is 0
            and has no entropy (see `sac.step`).
    """

    def __init__(
        self,
        actor: SquashedGaussianActor,
        critic: TwinCritic,
        *,
        log_alpha: Tensor,
        gamma: float,
        absorbing: bool,
        noise: Tensor,
    ) -> None:
        self.actor, self.critic, self.log_alpha = actor, critic, log_alpha
        self.gamma, self.absorbing, self.noise = gamma, absorbing, noise

    @classmethod
    def of(cls, agent: SAC) -> RecoveredReward:
        """Of an agent that IQ-Learn trains."""
        generator = torch.Generator().manual_seed(0)
        return cls(
            agent.actor,
            agent.parts.critic,
            log_alpha=agent.parts.log_alpha,
            gamma=agent.config.gamma,
            absorbing=agent.settings.absorbing,
            noise=torch.randn(_DRAWS, agent.layout.action_dim, generator=generator),
        )

    @torch.no_grad()
    def __call__(
        self,
        observations: Tensor,
        actions: Tensor,
        next_observations: Tensor,
        terminated: Tensor | None = None,
    ) -> Tensor:
        """[B, O], [B, A], [B, O], [B] -> [B]; nothing terminates where `terminated` is None."""
        following = self.gamma * self.value(next_observations)
        if terminated is not None:
            following = following * (1.0 - terminated)
        return self.critic(observations, actions).mean(dim=0) - following

    @torch.no_grad()
    def value(self, observations: Tensor) -> Tensor:
        """V(s): [B, O] -> [B]."""
        count, draws = len(observations), len(self.noise)
        states = observations.repeat_interleave(draws, dim=0)
        actions, log_probs = self.actor.sample(states, self.noise.repeat(count, 1))
        if self.absorbing:
            going = 1.0 - states[:, -1]
            actions, log_probs = actions * going[:, None], log_probs * going
        soft = self.critic(states, actions).mean(dim=0) - self.log_alpha.exp() * log_probs
        return soft.view(count, draws).mean(dim=1)


def save_recovered_reward(
    path: Path, reward: RecoveredReward, *, hidden: Sequence[int], **facts: Any
) -> None:
    """Write it, atomically, with `facts` (plain values: environment, demonstrations)."""
    actor = reward.actor
    saved = {
        "actor": actor.state_dict(),
        "critic": reward.critic.state_dict(),
        "log_alpha": reward.log_alpha.clone(),
        "gamma": reward.gamma,
        "absorbing": reward.absorbing,
        "noise": reward.noise,
        "hidden": list(hidden),
        "activation": actor.activation,
        "observation_dim": actor.layers[0].in_features,
        "facts": facts,
    }
    with atomic_open(path) as file:
        torch.save(saved, file)


def load_recovered_reward(path: Path) -> tuple[RecoveredReward, dict[str, Any]]:
    """What `save_recovered_reward` wrote, and the facts. UserError when it is anything else."""
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        centre, half = saved["actor"]["centre"], saved["actor"]["half_width"]
        spaces = Spaces(
            "saved", saved["observation_dim"], (centre - half).numpy(), (centre + half).numpy()
        )
        sizes: dict[str, Any] = {"hidden": saved["hidden"], "activation": saved["activation"]}
        actor = SquashedGaussianActor(spaces, **sizes)
        actor.load_state_dict(saved["actor"])
        critic = TwinCritic(spaces.observation_dim, spaces.action_dim, **sizes)
        critic.load_state_dict(saved["critic"])
        rest = {key: saved[key] for key in ("log_alpha", "gamma", "absorbing", "noise")}
        if not math.isfinite(rest["log_alpha"].item()):
            raise ValueError("log_alpha is not finite")
        facts = dict(saved["facts"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such recovered reward; check the path") from error
    except Exception as error:  # torch.load has no error of its own for foreign files
        raise UserError(f"{path}: not a recovered reward: {error}") from error
    return RecoveredReward(actor, critic, **rest), facts
