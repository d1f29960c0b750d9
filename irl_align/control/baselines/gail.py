"""GAIL off-policy: SAC on the reward of a discriminator that is trained on the replay.

    D tells demonstrated (s, a) from replayed ones;   r(s, a) = scale * form(logit D(s, a))

Ho & Ermon 2016; off-policy as DAC (Kostrikov et al. 2019): agent's batches come from the replay
without importance weights, rewards are computed when a batch is drawn, and in absorbing
environments both sides have the same absorbing transitions.

The form decides what living is worth where an episode can end early: a reward that is never
negative pays for every further step, one that is never positive for an early end. So such
environments want `absorbing` or `fixed_horizon`, whatever the form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from irl_align.control.assembly import world
from irl_align.control.baselines.discriminator import (
    ClassifierConfig,
    Discriminator,
    DiscriminatorCodec,
    fit_discriminator,
)
from irl_align.control.baselines.off_policy import EpisodesConfig, Past, ReplaySampler
from irl_align.control.buffers import Batch, ReplayBuffer
from irl_align.control.config import DemonstratedConfig
from irl_align.control.looping import Verbs
from irl_align.control.networks.rewards import RewardNet
from irl_align.control.sac.batches import Relabelled
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.core.checks import choice, positive
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result

NET = "discriminator"


@dataclass
class GAILRewardConfig:
    """How a logit becomes a reward."""

    inputs: str = "state_action"  # state_action | state
    # positive: -log(1 - D) >= 0; logit: log D - log(1 - D); negative: log D <= 0
    form: str = "logit"
    scale: float = 1.0

    def __post_init__(self) -> None:
        choice("inputs", self.inputs, ("state_action", "state"))
        choice("form", self.form, ("positive", "logit", "negative"))
        positive(self, "scale")


@dataclass
class GAILConfig(DemonstratedConfig):
    """GAIL, off-policy, on one environment."""

    run_dir: str = "runs/gail"
    reward: GAILRewardConfig = field(default_factory=GAILRewardConfig)
    discriminator: ClassifierConfig = field(default_factory=ClassifierConfig)
    round: EpisodesConfig = field(default_factory=EpisodesConfig)


class LogitReward:
    """r(s, a) of a discriminator's logit, as its weights are when it is called."""

    def __init__(self, net: RewardNet, config: GAILRewardConfig) -> None:
        self.net, self.config = net, config

    def __call__(self, observations: Tensor, actions: Tensor, /) -> Tensor:
        """[..., O], [..., A] -> [...]."""
        return self.config.scale * shaped(self.net(observations, actions), self.config.form)


def shaped(logits: Tensor, form: str) -> Tensor:
    """-log(1 - D), log D - log(1 - D) or log D of logits [...]."""
    if form == "positive":
        return softplus(logits)
    return logits if form == "logit" else -softplus(-logits)


class Classification:
    """The reward verb: training steps of the discriminator, in proportion to new steps."""

    def __init__(self, expert: ReplayBuffer) -> None:
        self.expert = expert

    def fit(
        self, reward: Discriminator, samples: Past, ctx: PhaseContext, /
    ) -> tuple[Discriminator, Metrics]:
        net = reward.first

        def logits(batch: Batch) -> Tensor:
            return net(batch.observations, batch.actions)

        steps = reward.steps_for(samples.new)
        metrics = fit_discriminator(
            reward, logits, self.expert, samples.replay, steps, seed=ctx.seed
        )
        return reward, metrics


def gail(
    config: GAILConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, Discriminator]:
    """Run or resume what `config` describes, until its environment steps are used up.

    Args:
        keep: with False nothing is written.
        trainer: what else BilevelTrainer takes (`callbacks`).

    The history holds the metrics of `ReturnEvaluator`, `fit_discriminator` and `train`. Raises
    UserError when the demonstrations cannot be used, before anything is run.
    """
    with world(config) as here:
        spaces = here.spaces
        demonstrations = here.demonstrations(config.demonstrations)
        learner = here.learner(remember=config.round.episodes)
        net = config.discriminator.net(
            spaces.observation_dim, spaces.action_dim, config.reward.inputs, config.seed
        )
        discriminator = Discriminator({NET: net}, config.discriminator)
        discriminator.facts["environment"] = spaces.environment
        expert = ReplayBuffer.of(demonstrations.trajectories, learner.buffer.absorbing_transitions)
        verbs = Verbs(
            sampler=ReplaySampler(here.collector),
            reward=Classification(expert),
            policy=SoftActorCritic[Discriminator](
                here.collector,
                config.round.episodes,
                lambda mine, reward, seed: Relabelled(
                    mine.buffer, LogitReward(reward.first, config.reward)
                ),
            ),
        )
        return here.run(
            verbs,
            learner,
            discriminator,
            Codecs(policy=LearnerCodec(learner), reward=DiscriminatorCodec(discriminator)),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: {"demonstrations": demonstrations.report.sha256},
            **trainer,
        )
