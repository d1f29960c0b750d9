"""CLARE (Yue et al. 2023): conservative model-based reward learning, offline.

A round, from demonstrations D_E, transitions D of anybody (all = both), and a model of the dynamics
that says how unsure it is:

    sample    steps of pi_k in the model, from demonstrated states
    reward    `clare_objective`: demonstrations above the model's steps, where it is sure
    policy    SAC in the model under r_{k+1}, with a share of cloning in the actor's loss

The model is the ensemble that all learners in a model have, fitted to all data, or (`model_of`) to
D alone as theirs are, so that one serves all; it is stated against `StepInModel`, so any other that
can do that will do. The cloning term,
-`cloning` E_{D_E}[log pi(a|s)], is not in the paper's objective, but in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from irl_align.control.baselines.clare_objective import ConservativeReward, clare_weights
from irl_align.control.config import RewardConfig, SACConfig
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.fixed_data import FixedDataConfig, fixed_data
from irl_align.control.looping import Verbs
from irl_align.control.offline.preparing import prepare_model
from irl_align.control.reward_fit import LearnedReward, RewardCodec
from irl_align.control.sac.agent import named
from irl_align.control.sac.batches import Relabelled
from irl_align.control.sac.compiling import threads_for
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.transitions import Transitions
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.core.checks import choice, not_negative, positive
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result

# How unsure a model is: the largest norm of a member's standard deviations.
PENALTY = "mopo_default"
_ROWS = 10_000


class Imagined(Protocol):
    """A step in the model, of B rows."""

    @property
    def next_observations(self) -> Tensor:
        """[B, O]."""
        ...

    @property
    def terminated(self) -> Tensor:
        """[B], bool."""
        ...

    @property
    def penalties(self) -> Tensor:
        """[B], u >= 0; 0 where no penalty was asked for."""
        ...


class StepInModel(Protocol):
    """The part of a world model that is used."""

    def step(
        self,
        observations: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        penalty: str | None,
        /,
    ) -> Imagined: ...


def _reward() -> RewardConfig:
    return RewardConfig(
        inputs="state_action",
        hidden=[256] * 4,
        learning_rate=5e-5,
        weight_decay=0.0,
        steps=5,
        l2=1.0,  # lambda
    )


def _world_model() -> WorldModelConfig:
    return WorldModelConfig(hidden=[256] * 4, weight_decay=[7.5e-5])


def _sac() -> SACConfig:
    return SACConfig(
        hidden=[256, 256], learning_rate=3e-4, batch_size=256, capacity=100_000, update_every=4
    )


@dataclass
class CLAREConfig(FixedDataConfig):
    """CLARE on one environment; of `reward` it takes the net, its optimiser, steps and l2."""

    run_dir: str = "runs/clare"
    rounds: int = 10
    save_every: int = 1
    sac: SACConfig = field(default_factory=_sac)
    reward: RewardConfig = field(default_factory=_reward)
    world_model: WorldModelConfig = field(default_factory=_world_model)
    model_of: str = "everything"  # what the model is fitted to: everything | dataset
    threshold: float = 0.5  # of u over its largest value in the data
    batch_size: int = 5_000  # of the reward's steps, of each kind
    starts: int = 5_000  # demonstrated states that are imagined from, an epoch
    horizon: int = 5  # steps from each
    epochs: int = 500  # a round
    updates: int = 20  # an epoch
    cloning: float = 0.25  # weight of the demonstrations' log-likelihood; 0: the paper's objective

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("model_of", self.model_of, ("everything", "dataset"))
        positive(self, "batch_size", "starts", "horizon", "epochs", "updates")
        not_negative(self, "threshold")
        not_negative(self, "cloning")
        if self.updates % self.sac.update_every:
            raise ValueError(
                f"updates is {self.updates}, which is no multiple of sac.update_every, "
                f"{self.sac.update_every}"
            )


class Imagination:
    """Rolls the current policy out in the model; also the sample verb."""

    def __init__(self, model: StepInModel, demonstrations: Transitions, config: CLAREConfig):
        self.model, self.demonstrations, self.config = model, demonstrations, config

    def sample(self, policy: Learner, ctx: PhaseContext, /) -> tuple[Tensor, Metrics]:
        return self.rows(policy, torch.Generator().manual_seed(ctx.seed)), {}

    @torch.no_grad()
    def rows(self, policy: Learner, generator: torch.Generator) -> Tensor:
        """Packed steps [n, width] from demonstrated states; fewer where episodes end."""
        layout, actor = self.demonstrations.layout, policy.agent.actor
        states = layout.unpack(self.demonstrations.draw(self.config.starts, generator)).observations
        found: list[Tensor] = []
        for _ in range(self.config.horizon):
            noise = torch.randn(len(states), layout.action_dim, generator=generator)
            actions, _ = actor.sample(states, noise)
            step = self.model.step(states, actions, generator, None)
            following, ended = step.next_observations, step.terminated
            found.append(torch.cat([states, actions, following, ended[:, None].float()], dim=1))
            states = following[~ended]
            if not len(states):
                break
        rows = torch.cat(found)
        if not torch.isfinite(rows).all():
            raise UserError("the model imagined numbers that are not finite; fit it again")
        return rows


class InTheModel:
    """The policy verb: epochs of imagined steps, each with some updates on all that is kept."""

    def __init__(self, imagination: Imagination, config: CLAREConfig) -> None:
        self.imagination, self.config = imagination, config

    def improve(
        self, policy: Learner, reward: LearnedReward, samples: object, ctx: PhaseContext, /
    ) -> tuple[Learner, Metrics]:
        generator = torch.Generator().manual_seed(ctx.seed)
        sac, source = policy.config, Relabelled(policy.buffer, reward.net)
        shape = sac.update_every, sac.batch_size
        losses: list[Tensor] = []
        with threads_for(sac.hidden):
            for _ in range(self.config.epochs):
                policy.buffer.extend_packed(self.imagination.rows(policy, generator))
                for _ in range(self.config.updates // sac.update_every):
                    cloned = None
                    if self.config.cloning:
                        drawn = self.imagination.demonstrations.draw(math.prod(shape), generator)
                        cloned = drawn.view(*shape, -1)
                    losses.append(policy.agent.update(*source.draw(*shape), cloned))
                policy.follow(self.config.updates)
        return policy, named(torch.stack(losses).mean(dim=0))


class Counted:
    """The evaluation: `ReturnEvaluator`, with the updates that were made."""

    def __init__(self, returns: ReturnEvaluator) -> None:
        self.returns = returns

    def evaluate(self, policy: Learner, reward: object, ctx: PhaseContext, /) -> Metrics:
        found = self.returns.evaluate(policy, reward, ctx)
        return {**found, "steps/updates": policy.agent.updates}


def clare(
    config: CLAREConfig,
    *,
    model: StepInModel | None = None,
    data: Transitions | None = None,
    loggers: Sequence[Logger] = (),
    keep: bool = True,
    **trainer: Any,
) -> Result[Learner, LearnedReward]:
    """Run or resume what `config` describes, until its rounds are done.

    Args:
        model: of this environment's dynamics, fitted already, without a reward. None: as
            `config.world_model` says.
        data, keep, trainer: as of `bicql`.

    The history holds `reward/{loss,demo_score,sample_score}`, the losses of SAC and the metrics of
    `ReturnEvaluator`. Raises UserError when demonstrations or data cannot be used, before anything
    is run.
    """
    with fixed_data(config) as here:
        spaces = here.spaces
        found = here.demonstrations()
        shown = Transitions.of(found.trajectories)
        others = here.data(data, found)
        everything = Transitions(shown.layout, torch.cat([shown.rows, others.rows]))
        sources = {"demonstrations": found.report.sha256, "dataset": others.sha256()}
        # Before anything is written, where it can be.
        unsure = None if model is None else _unsure(model, everything, config.seed)
        with here.directory(keep) as run:
            if model is None or unsure is None:
                learned_from = others if config.model_of == "dataset" else everything
                model = prepare_model(
                    config.world_model,
                    spaces,
                    learned_from,
                    found.trajectories,
                    run,
                    loggers,
                    penalty=PENALTY,
                    fixed_horizon=config.environment.fixed_horizon,
                    seed=config.seed,
                    source=learned_from.sha256(),
                )
                unsure = _unsure(model, everything, config.seed)
            demonstrated = torch.arange(len(everything)) < len(shown)
            beta, z = clare_weights(unsure, demonstrated, config.threshold)
            learner = Learner(
                spaces,
                config.sac,
                seed=config.seed,
                planned_updates=config.rounds * config.epochs * config.updates,
                cloning=config.cloning,
            )
            reward = LearnedReward(*shown.layout, config.reward, seed=config.seed)
            reward.look_at(shown.batch)
            reward.facts["environment"] = spaces.environment
            imagination = Imagination(model, shown, config)
            far = (beta < 0).float().mean().item()
            return here.run(
                Verbs(
                    policy=InTheModel(imagination, config),
                    sampler=imagination,
                    reward=ConservativeReward(
                        shown, everything, beta, z, config.reward, config.batch_size
                    ),
                ),
                learner,
                reward,
                Codecs(policy=LearnerCodec(learner), reward=RewardCodec(reward)),
                evaluator=Counted(here.evaluator),
                loggers=loggers,
                keep=keep,
                directory=run,
                manifest=lambda number: {**sources, "z": z, "unsure": far},
                **trainer,
            )


@torch.no_grad()
def _unsure(model: StepInModel, data: Transitions, seed: int) -> Tensor:
    """u over its largest value, of every transition [N]."""
    generator = torch.Generator().manual_seed(seed)
    batch = data.batch
    pieces = zip(batch.observations.split(_ROWS), batch.actions.split(_ROWS), strict=True)
    found = torch.cat([model.step(o, a, generator, PENALTY).penalties for o, a in pieces])
    if not torch.isfinite(found).all() or bool((found < 0).any()):
        raise UserError("the model's uncertainty must be finite numbers >= 0")
    return found / found.max().clamp(min=1e-30)
