"""The agent: networks, optimisers, temperature and noise, with one call for K updates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from irl_align.control.buffers import Layout
from irl_align.control.config import SACConfig
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.critics import TwinCritic
from irl_align.control.networks.numpy_actor import NumpyActor
from irl_align.control.sac.adam import Moments
from irl_align.control.sac.compiling import compiled_update, worth_compiling
from irl_align.control.sac.step import (
    LOSSES,
    TEMPORAL_DIFFERENCE,
    CriticLoss,
    Parts,
    Settings,
    update,
)
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError


class SAC:
    """Soft actor-critic.

    Args:
        spaces: of the environment, the absorbing flag included.
        config: see there.
        absorbing: the last number of an observation is the absorbing flag (see `step`).
        seed: of the initial weights and of the noise in updates.
        planned_updates: what `compile: auto` decides by; None does not compile.
        critics: what the critics minimise.
        cloning: weight of the likelihood of demonstrations in the actor's loss.

    Attributes:
        acting: the actor on numpy views of its parameters, which follow every update.

    Raises UserError when actions are no bounded box, and when `compile: always` cannot be had.
    """

    def __init__(
        self,
        spaces: Spaces,
        config: SACConfig,
        *,
        seed: int,
        absorbing: bool = False,
        planned_updates: int | None = None,
        critics: CriticLoss = TEMPORAL_DIFFERENCE,
        cloning: float = 0.0,
    ) -> None:
        self.config, self.critics = config, critics
        self.layout = Layout(spaces.observation_dim, spaces.action_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.parts = _parts(spaces, config)
        entropy = -float(spaces.action_dim)
        if config.target_entropy is not None:
            entropy = config.target_entropy
        self.settings = Settings(
            config.gamma,
            config.tau,
            config.learning_rate,
            entropy if config.alpha is None else None,
            absorbing,
            config.actor_learning_rate or config.learning_rate,
            cloning,
        )
        self.acting = NumpyActor.of(self.parts.actor)
        self._noise = torch.Generator().manual_seed(seed)
        self.compiled = worth_compiling(
            config.compile,
            planned_updates,
            key="sac.compile",
            loss="SAC runs about three times slower than it could",
        )

    @property
    def actor(self) -> SquashedGaussianActor:
        return self.parts.actor

    @property
    def alpha(self) -> float:
        """The temperature that rewards are weighed against."""
        return math.exp(self.parts.log_alpha.item())

    @property
    def updates(self) -> int:
        """How many were ever made."""
        return int(self.parts.critic_moments.count.item())

    def update(self, rows: Tensor, rewards: Tensor, demonstrated: Tensor | None = None) -> Tensor:
        """K updates on rows [K, B, width] with rewards [K, B]; returns [4], see `LOSSES`.

        demonstrated: [K, D, width], for `cloning`.
        """
        critics = self.critics
        shape = *rows.shape[:1], critics.draws + 1, rows.shape[1], self.layout.action_dim
        noise = torch.randn(shape, generator=self._noise)
        function = compiled_update() if self.compiled else update
        return function(
            self.parts,
            self.settings,
            self.layout,
            rows,
            rewards,
            noise,
            critics.function,
            demonstrated,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that a next update depends on, as tensors and plain numbers (copies)."""
        parts = self.parts
        return {
            "actor": _copies(parts.actor),
            "critic": _copies(parts.critic),
            "target": _copies(parts.target),
            "log_alpha": parts.log_alpha.clone(),
            "actor_moments": parts.actor_moments.state_dict(),
            "critic_moments": parts.critic_moments.state_dict(),
            "alpha_moments": parts.alpha_moments.state_dict(),
            "noise": self._noise.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken.

        In place: `acting` follows. Raises KeyError, RuntimeError or ValueError when it is of
        another kind of agent.
        """
        parts = self.parts
        parts.actor.load_state_dict(state["actor"])
        parts.critic.load_state_dict(state["critic"])
        parts.target.load_state_dict(state["target"])
        parts.log_alpha.copy_(state["log_alpha"])
        parts.actor_moments.load_state_dict(state["actor_moments"])
        parts.critic_moments.load_state_dict(state["critic_moments"])
        parts.alpha_moments.load_state_dict(state["alpha_moments"])
        self._noise.set_state(state["noise"])


def named(losses: Tensor) -> dict[str, float]:
    """What `SAC.update` returned, by the keys of metrics."""
    return {f"policy/{key}": float(value) for key, value in zip(LOSSES, losses, strict=True)}


def _parts(spaces: Spaces, config: SACConfig) -> Parts:
    sizes: dict[str, Any] = {"hidden": config.hidden, "activation": config.activation}
    try:
        actor = SquashedGaussianActor(spaces, **sizes)
    except ValueError as error:
        raise UserError(f"{error}: SAC draws actions from a bounded box") from None
    critic = TwinCritic(spaces.observation_dim, spaces.action_dim, **sizes)
    target = TwinCritic(spaces.observation_dim, spaces.action_dim, **sizes)
    target.load_state_dict(critic.state_dict())
    target.requires_grad_(False)
    alpha = config.initial_alpha if config.alpha is None else config.alpha
    log_alpha = torch.tensor(math.log(alpha))
    return Parts(
        actor,
        critic,
        target,
        log_alpha,
        Moments.of(list(actor.parameters())),
        Moments.of(list(critic.parameters())),
        Moments.of([log_alpha]),
    )


def _copies(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
