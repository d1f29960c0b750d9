"""AIRL off-policy (Fu et al. 2018): a discriminator that holds a reward.

    logit(s, a, s') = f(s, a, s') - log pi(a|s),   f = g(s, a) + gamma (1 - d) h(s') - h(s)

At the optimum f = log pi_E up to what the state's own distribution adds; with the shaping term, g
of the state alone and deterministic dynamics, g is the expert's reward up to a constant. g is what
is saved as `reward.pt` and is worth handing on; h belongs to these dynamics.

The policy's reward, computed when a batch is drawn, in one of two ways:

* `log_odds`, as in the paper: r = f - log pi(a|s) with the current policy's density of the replayed
  action. It is the logit, so it tends to log p_E(s, a) - log p_replay(s, a); SAC's entropy comes
  on top of it. `scale` is for the critics' sake: under a tuned alpha it changes nothing else.
* `soft`: E_pi[sum f - log pi] is the objective of SAC at temperature 1 under the reward f, hence
  of SAC at temperature alpha under r = alpha f. The replayed action's density does not enter: what
  an old action costs today says nothing about the entropy of today's policy. It needs a fixed
  alpha: under a tuned one, rewards would shrink along with alpha and the entropy stay what it is.

The paper is on-policy and silent about replay. Chosen here: densities are always of the current
policy, `recent` may keep the agent's side near it, and an absorbing state has no choice, so log pi
= 0. Densities are those of tanh(u) in (-1, 1)^A; actions at the bound, where u is infinite, are
moved to `action_edge` of it, and log pi is clamped to +-`log_prob_bound`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.rewards import RewardNet
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.spaces import Spaces
from irl_align.core.checks import choice, positive
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result

# The transferable reward's file is named as ML-IRL's is.
REWARD, POTENTIAL = "reward", "potential"


@dataclass
class AIRLRewardConfig:
    """The parts of f, and what the policy gets of it."""

    inputs: str = "state"  # of g: state | state_action
    shaping: bool = True  # f has the term gamma h(s') - h(s); without it f = g
    policy_reward: str = "log_odds"  # log_odds | soft
    scale: float = 1.0  # of log_odds
    action_edge: float = 0.99  # |actions| beyond this share of their bound count as it
    log_prob_bound: float = 20.0

    def __post_init__(self) -> None:
        choice("inputs", self.inputs, ("state", "state_action"))
        choice("policy_reward", self.policy_reward, ("log_odds", "soft"))
        positive(self, "log_prob_bound", "scale")
        if self.policy_reward == "soft" and self.scale != 1:
            raise ValueError("scale must be 1 with policy_reward=soft: there alpha is the scale")
        if not 0 < self.action_edge < 1:
            raise ValueError(f"action_edge is {self.action_edge}; it must be in (0, 1)")


@dataclass
class AIRLConfig(DemonstratedConfig):
    """AIRL, off-policy, on one environment. `discriminator` gives the shape of g and of h."""

    run_dir: str = "runs/airl"
    reward: AIRLRewardConfig = field(default_factory=AIRLRewardConfig)
    discriminator: ClassifierConfig = field(
        default_factory=lambda: ClassifierConfig(
            hidden=[256, 256], activation="relu", gradient_penalty=0.0
        )
    )
    round: EpisodesConfig = field(default_factory=EpisodesConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward.policy_reward == "soft" and self.sac.alpha is None:
            raise ValueError(
                "reward.policy_reward=soft needs a fixed temperature: set sac.alpha (1 is AIRL's "
                "own), or reward.policy_reward=log_odds"
            )


class ShapedReward(Discriminator):
    """f = g + gamma (1 - d) h(s') - h(s), with its optimiser.

    Its `facts` say alpha = 1: f - log pi weighs g against the entropy itself.
    """

    def __init__(self, spaces: Spaces, config: AIRLConfig) -> None:
        shape, dims = config.discriminator, (spaces.observation_dim, spaces.action_dim)
        nets = {REWARD: shape.net(*dims, config.reward.inputs, config.seed)}
        if config.reward.shaping:
            nets[POTENTIAL] = shape.net(*dims, "state", config.seed + 1)
        super().__init__(nets, shape)
        self.gamma = config.sac.gamma
        self.facts.update(environment=spaces.environment, alpha=1.0)

    @property
    def net(self) -> RewardNet:
        """g."""
        return self.first

    def f(self, batch: Batch) -> Tensor:
        """[B, ...] -> [B]."""
        rewards = self.net(batch.observations, batch.actions)
        potential = self.nets.get(POTENTIAL)
        if potential is None:
            return rewards
        after = potential(batch.next_observations, batch.actions)
        before = potential(batch.observations, batch.actions)
        return rewards + self.gamma * (1.0 - batch.terminated) * after - before


class PolicyDensity:
    """log pi(a|s) of given actions under a policy as it is when asked, without gradients."""

    def __init__(
        self, actor: SquashedGaussianActor, config: AIRLRewardConfig, *, absorbing: bool
    ) -> None:
        self.actor, self.config, self.absorbing = actor, config, absorbing

    @torch.no_grad()
    def __call__(self, observations: Tensor, actions: Tensor, /) -> Tensor:
        """[B, O], [B, A] -> [B]."""
        actor, edge = self.actor, self.config.action_edge
        inside = ((actions - actor.centre) / actor.half_width).clamp(-edge, edge)
        found = actor.log_prob(observations, actor.centre + actor.half_width * inside)
        found = found.clamp(-self.config.log_prob_bound, self.config.log_prob_bound)
        return found * (1.0 - observations[..., -1]) if self.absorbing else found


class AdversarialSource:
    """Replayed transitions with AIRL's reward of the moment; a `BatchSource`."""

    def __init__(self, learner: Learner, reward: ShapedReward, config: AIRLConfig) -> None:
        self.learner, self.reward, self.config = learner, reward, config.reward
        self.density = PolicyDensity(
            learner.agent.actor, config.reward, absorbing=config.environment.absorbing
        )

    @torch.no_grad()
    def draw(self, batches: int, batch_size: int, /) -> tuple[Tensor, Tensor]:
        buffer = self.learner.buffer
        rows = buffer.draw_packed(batches * batch_size)  # [K B, width]
        drawn = buffer.layout.unpack(rows)
        rewards = self.reward.f(drawn)
        if self.config.policy_reward == "soft":
            rewards = self.learner.agent.alpha * rewards
        else:
            density = self.density(drawn.observations, drawn.actions)
            rewards = self.config.scale * (rewards - density)
        return rows.view(batches, batch_size, -1), rewards.view(batches, batch_size)


class AdversarialStep:
    """The reward verb: training steps of f against the current policy's density."""

    def __init__(self, expert: ReplayBuffer, config: AIRLConfig) -> None:
        self.expert, self.config = expert, config

    def fit(
        self, reward: ShapedReward, samples: Past, ctx: PhaseContext, /
    ) -> tuple[ShapedReward, Metrics]:
        density = PolicyDensity(
            samples.actor, self.config.reward, absorbing=self.config.environment.absorbing
        )

        def logits(batch: Batch) -> Tensor:
            return reward.f(batch) - density(batch.observations, batch.actions)

        steps = reward.steps_for(samples.new)
        metrics = fit_discriminator(
            reward, logits, self.expert, samples.replay, steps, seed=ctx.seed
        )
        return reward, metrics


def airl(
    config: AIRLConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, ShapedReward]:
    """Run or resume what `config` describes, until its environment steps are used up.

    Args:
        keep: with False nothing is written.
        trainer: what else BilevelTrainer takes (`callbacks`).

    The history holds the metrics of `ReturnEvaluator`, `fit_discriminator` and `train`. Raises
    UserError when the demonstrations cannot be used, before anything is run.
    """
    with world(config) as here:
        demonstrations = here.demonstrations(config.demonstrations)
        learner = here.learner(remember=config.round.episodes)
        reward = ShapedReward(here.spaces, config)
        expert = ReplayBuffer.of(demonstrations.trajectories, learner.buffer.absorbing_transitions)
        verbs = Verbs(
            sampler=ReplaySampler(here.collector),
            reward=AdversarialStep(expert, config),
            policy=SoftActorCritic[ShapedReward](
                here.collector,
                config.round.episodes,
                lambda mine, learned, seed: AdversarialSource(mine, learned, config),
            ),
        )
        return here.run(
            verbs,
            learner,
            reward,
            Codecs(policy=LearnerCodec(learner), reward=DiscriminatorCodec(reward)),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: {"demonstrations": demonstrations.report.sha256},
            **trainer,
        )
