"""Behavioural cloning: supervised learning of the actor on the demonstrations.

    likelihood   min -E_E[log pi(a|s)]                 pi a tanh-Gaussian
    mse          min E_E[|(mode(s) - a) / w|^2]        w half the width of the box of actions

A demonstrated action at the edge of its box has no finite u = atanh(a): it is clipped just inside
of it (`SquashedGaussianActor.log_prob`). No environment step is taken but in evaluations, so the
run ends with its epochs; `environment_steps` plays no part.

Every minibatch counts, the last and smaller one of an epoch too: with fewer steps than a batch
there still is one update an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irl_align.control.assembly import world
from irl_align.control.config import DemonstratedConfig
from irl_align.control.looping import Verbs
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.sac.adam import adam_
from irl_align.control.sac.compiling import threads_for
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.trajectories import Trajectories
from irl_align.core.checks import choice, not_negative, positive
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result


@dataclass
class BCConfig(DemonstratedConfig):
    """Behavioural cloning; of `sac` it takes the actor's shape and average."""

    run_dir: str = "runs/bc"
    loss: str = "likelihood"  # likelihood | mse
    epochs: int = 1_000
    epochs_per_round: int = 50
    batch_size: int = 100
    learning_rate: float = 1e-3
    l2: float = 0.0  # times the squared norm of the actor's parameters

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("loss", self.loss, ("likelihood", "mse"))
        positive(self, "epochs", "epochs_per_round", "batch_size", "learning_rate")
        not_negative(self, "l2")

    @property
    def rounds(self) -> int:
        """How many it takes for all epochs; the last may have fewer of them."""
        return -(-self.epochs // self.epochs_per_round)


def negative_log_likelihood(
    actor: SquashedGaussianActor, observations: Tensor, actions: Tensor
) -> Tensor:
    """-E[log pi(a|s)] [] of [B, O] and [B, A], in densities of tanh(u) (see `actor`)."""
    return -actor.log_prob(observations, actions).mean()


def squared_error(actor: SquashedGaussianActor, observations: Tensor, actions: Tensor) -> Tensor:
    """E[|(mode(s) - a) / w|^2] [] of [B, O] and [B, A]."""
    error = (actor.mode(observations) - actions) / actor.half_width
    return error.square().sum(dim=-1).mean()


class Cloning:
    """The policy verb: some epochs of minibatches, drawn with the phase's own seed."""

    def __init__(self, demonstrations: Trajectories, config: BCConfig) -> None:
        steps = demonstrations.steps()
        self.observations = torch.from_numpy(steps.observations)
        self.actions = torch.from_numpy(steps.actions)
        self.config = config
        self.loss = squared_error if config.loss == "mse" else negative_log_likelihood

    def improve(
        self, policy: Learner, reward: object, samples: object, ctx: PhaseContext, /
    ) -> tuple[Learner, Metrics]:
        config, actor = self.config, policy.agent.actor
        done = ctx.round * config.epochs_per_round
        epochs = min(config.epochs_per_round, config.epochs - done)
        generator = torch.Generator().manual_seed(ctx.seed)
        losses: list[Tensor] = []
        with threads_for(policy.config.hidden):
            for _ in range(epochs):
                order = torch.randperm(len(self.actions), generator=generator)
                batches = order.split(config.batch_size)
                losses += [self._update(policy, index) for index in batches]
                policy.follow(len(batches))
            with torch.no_grad():
                likelihood = -negative_log_likelihood(actor, self.observations, self.actions)
                error = squared_error(actor, self.observations, self.actions)
        if not torch.isfinite(torch.stack([*losses, likelihood])).all():
            raise UserError("cloning left the finite numbers; lower learning_rate")
        return policy, {
            "policy/clone_loss": torch.stack(losses).mean().item(),
            "policy/demo_log_prob": likelihood.item(),
            "policy/demo_error": error.item(),
        }

    def _update(self, policy: Learner, index: Tensor) -> Tensor:
        actor, weights = policy.agent.actor, list(policy.agent.actor.parameters())
        loss = self.loss(actor, self.observations[index], self.actions[index])
        total = loss
        if self.config.l2:
            total = loss + self.config.l2 * sum(w.square().sum() for w in weights)
        adam_(
            weights,
            torch.autograd.grad(total, weights),
            policy.agent.parts.actor_moments,
            self.config.learning_rate,
        )
        return loss.detach()


def bc(
    config: BCConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, None]:
    """Run or resume what `config` describes, until all epochs are done.

    Arguments and errors as of `ml_irl`. The history holds the metrics of `ReturnEvaluator` (with
    `steps/environment` 0), `policy/clone_loss` (mean over the round's updates) and, of the whole
    demonstrations after the round, `policy/{demo_log_prob,demo_error}`.
    """
    with world(config) as here:
        demonstrations = here.demonstrations(config.demonstrations)
        # Not `here.learner`: there is nothing to compile, and no replay to fill.
        learner = Learner(
            here.spaces,
            config.sac,
            seed=config.seed,
            absorbing=config.environment.absorbing,
        )
        verbs: Verbs[Learner, None] = Verbs(policy=Cloning(demonstrations.trajectories, config))
        return here.run(
            verbs,
            learner,
            None,
            Codecs(policy=LearnerCodec(learner)),
            loggers=loggers,
            keep=keep,
            rounds=config.rounds,
            manifest=lambda number: {"demonstrations": demonstrations.report.sha256},
            **trainer,
        )
