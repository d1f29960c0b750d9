"""f-IRL (Ni et al. 2020): a reward whose optimal policy visits states as the expert does.

    min_theta D_f(rho_E || rho_theta),   rho_theta(tau) ~ p(tau) exp(sum_t r_theta(s_t) / alpha)
    gradient = 1 / (alpha T) cov_tau(sum_t h(rho_E / rho_theta (s_t)), -sum_t grad r_theta(s_t))

with h(u) = f'(u) u - f(u): for FKL u, for RKL log u - 1, for JS log(1 + u) - log 2. The covariance
is over whole trajectories of one length T. The ratio u = exp(logit) is read from a discriminator
that is fitted to the same trajectories first (a plain perceptron with a soft bound; the authors'
code has a residual one). With `inputs: state_action` the marginal is that of (s, a).

A round: trajectories, ratio, `steps` gradient steps on r, episodes of SAC under r; sampling and SAC
are ML-IRL's. Chosen where the paper is silent: the covariance is the unbiased one, and a round
with a single trajectory (the first) fits the ratio and leaves r alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn.functional import softplus

from irl_align.control.absorbing import padded_with_absorbing_states
from irl_align.control.assembly import world
from irl_align.control.baselines.discriminator import (
    ClassifierConfig,
    Discriminator,
    fit_discriminator,
)
from irl_align.control.buffers import Batch, ReplayBuffer
from irl_align.control.config import DemonstratedConfig, RewardConfig, RoundConfig
from irl_align.control.looping import Verbs
from irl_align.control.ml_irl import AgentTrajectories, Samples, relabelled
from irl_align.control.reward_fit import LearnedReward, RewardCodec, Weighted
from irl_align.control.sac.compiling import threads_for
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories
from irl_align.core.checks import choice, positive
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result

RATIO = "ratio"


@dataclass
class FIRLRewardConfig:
    """The reward net and its fit."""

    divergence: str = "fkl"  # fkl | rkl | js
    inputs: str = "state"  # state | state_action
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    activation: str = "relu"
    bound: Optional[float] = 10.0  # of the soft bound; None: unbounded
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    steps: int = 1  # Adam steps a round

    def __post_init__(self) -> None:
        choice("divergence", self.divergence, ("fkl", "rkl", "js"))
        self.net()  # checks the rest

    def net(self) -> RewardConfig:
        """The net and its optimiser as ML-IRL's configuration says it."""
        return RewardConfig(
            inputs=self.inputs,
            hidden=self.hidden,
            activation=self.activation,
            bound=self.bound,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            steps=self.steps,
        )


@dataclass
class FIRLRoundConfig:
    """What a round is made of."""

    episodes: int = 1  # that the policy learns from
    samples: str = "training"  # training: its latest training episodes; fresh: episodes of its own
    agent_trajectories: int = 10  # that the covariance is over

    def __post_init__(self) -> None:
        choice("samples", self.samples, ("training", "fresh"))
        positive(self, "episodes")
        if self.agent_trajectories < 2:
            raise ValueError(
                f"agent_trajectories is {self.agent_trajectories}; a covariance needs 2 or more"
            )

    def sampling(self) -> RoundConfig:
        """The same as ML-IRL's sampler takes it."""
        return RoundConfig(
            episodes=self.episodes,
            samples=self.samples,
            agent_trajectories=self.agent_trajectories,
        )


@dataclass
class FIRLConfig(DemonstratedConfig):
    """f-IRL on one environment."""

    run_dir: str = "runs/f_irl"
    reward: FIRLRewardConfig = field(default_factory=FIRLRewardConfig)
    ratio: ClassifierConfig = field(
        default_factory=lambda: ClassifierConfig(bound=5.0, gradient_penalty=0.0, every=5)
    )
    round: FIRLRoundConfig = field(default_factory=FIRLRoundConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.environment.cut_after_fall is not None:
            raise ValueError(
                "environment.cut_after_fall must be null: f-IRL compares whole trajectories"
            )
        if self.ratio.recent is not None:
            raise ValueError(
                "ratio.recent must be null: the ratio is that of the sampled trajectories; see "
                "round.agent_trajectories"
            )


class MatchingReward(LearnedReward):
    """A reward net and the density ratio that its gradient is made of.

    Attributes:
        ratio: log(rho_E / rho_theta) as a discriminator.
    """

    def __init__(self, spaces: Spaces, config: FIRLConfig) -> None:
        dims = spaces.observation_dim, spaces.action_dim
        super().__init__(*dims, config.reward.net(), seed=config.seed)
        net = config.ratio.net(*dims, config.reward.inputs, config.seed + 1)
        self.ratio = Discriminator({RATIO: net}, config.ratio)
        self.facts["environment"] = spaces.environment

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.ratio.save(folder)

    def load(self, folder: Path) -> None:
        super().load(folder)
        self.ratio.load(folder)


class MatchingStep:
    """The reward verb: the density ratio, then the covariance gradient."""

    def __init__(self, demonstrations: Trajectories, config: FIRLConfig, *, horizon: int) -> None:
        self.config, self.horizon = config, horizon
        if config.environment.absorbing:
            demonstrations = padded_with_absorbing_states(demonstrations, horizon)
        self.expert = ReplayBuffer.of(demonstrations)
        self._expert = self.expert.recent(len(self.expert))

    def fit(
        self, reward: MatchingReward, samples: Samples, ctx: PhaseContext, /
    ) -> tuple[MatchingReward, Metrics]:
        reward.facts["alpha"] = samples.alpha
        trajectories = self._one_length(samples.trajectories)
        net = reward.ratio.first

        def logits(batch: Batch) -> Tensor:
            return net(batch.observations, batch.actions)

        newest = list(samples.trajectories)
        if samples.fresh is None:
            newest = newest[-self.config.round.episodes :]
        steps = reward.ratio.steps_for(sum(len(trajectory) for trajectory in newest))
        metrics = fit_discriminator(
            reward.ratio,
            logits,
            self.expert,
            ReplayBuffer.of(trajectories),
            steps,
            seed=ctx.seed,
            prefix=RATIO,
        )
        with threads_for(self.config.reward.hidden):
            weighted = Weighted.of(trajectories, self.horizon, 1.0)
            return reward, {**metrics, **self._match(reward, weighted, samples.alpha)}

    def _match(self, reward: MatchingReward, agent: Weighted, alpha: float) -> Metrics:
        net, horizon = reward.net, self.horizon
        with torch.no_grad():
            ratio = reward.ratio.first(agent.observations, agent.actions)
            worth = agent.returns(divergence_slope(ratio, self.config.reward.divergence)) * horizon
            demo = net(self._expert.observations, self._expert.actions)
        first: dict[str, float] = {}
        for _ in range(self.config.reward.steps):
            rewards = net(agent.observations, agent.actions)
            loss = covariance_loss(worth, agent.returns(rewards) * horizon, alpha, horizon)
            first = first or {
                "reward/loss": loss.item(),
                "reward/demo_score": demo.mean().item(),
                "reward/sample_score": rewards.mean().item(),
                "reward/saturation": net.saturation(torch.cat([demo, rewards])),
            }
            if len(worth) > 1:
                reward.optimiser.zero_grad()
                loss.backward()
                reward.optimiser.step()
        if not all(torch.isfinite(p).all() for p in net.parameters()):
            raise UserError("the reward net is no longer finite; lower reward.learning_rate")
        return first

    def _one_length(self, trajectories: Trajectories) -> Trajectories:
        if self.config.environment.absorbing:
            trajectories = padded_with_absorbing_states(trajectories, self.horizon)
        shortest, longest = trajectories.lengths.min(), trajectories.lengths.max()
        if shortest < longest or any(trajectory.terminated for trajectory in trajectories):
            raise UserError(
                f"{self.config.environment.name}: an episode ended after {shortest} steps, but "
                "f-IRL compares trajectories of one length; set environment.fixed_horizon=true or "
                "environment.absorbing=true"
            )
        return trajectories


def divergence_slope(log_ratio: Tensor, divergence: str) -> Tensor:
    """h(u) = f'(u) u - f(u) [...] at log u [...], u = rho_E / rho_theta."""
    if divergence == "fkl":  # f = u log u
        return log_ratio.exp()
    if divergence == "rkl":  # f = -log u
        return log_ratio - 1.0
    if divergence == "js":  # f = u log u - (1 + u) log((1 + u) / 2)
        return softplus(log_ratio) - math.log(2.0)
    raise ValueError(f"unknown {divergence=}; choose one of fkl, rkl, js")


def covariance_loss(worth: Tensor, returns: Tensor, alpha: float, horizon: int) -> Tensor:
    """A loss [] whose gradient is the paper's: -cov(worth, returns) / (alpha T).

    worth [N] holds sum_t h(u(s_t)) of each trajectory, returns [N] sum_t r(s_t) with gradients.
    The covariance is unbiased; 0 for one trajectory.
    """
    centred = worth.detach() - worth.detach().mean()
    return -(centred * returns).sum() / (max(len(worth) - 1, 1) * alpha * horizon)


def f_irl(
    config: FIRLConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, MatchingReward]:
    """Run or resume what `config` describes, until its environment steps are used up.

    Args:
        keep: with False nothing is written.
        trainer: what else BilevelTrainer takes (`callbacks`).

    The history holds the metrics of `ReturnEvaluator`, `fit_discriminator` (as `ratio/*`),
    `reward/{loss,demo_score,sample_score,saturation}` and those of `train`. Raises UserError when
    the demonstrations cannot be used, before anything is run, and when an episode ends early in an
    environment that is neither absorbing nor of a fixed horizon.
    """
    with world(config) as here:
        spaces = here.spaces
        demonstrations = here.demonstrations(config.demonstrations)
        horizon = max(spaces.max_episode_steps or 0, max(demonstrations.report.lengths))
        learner = here.learner(remember=config.round.agent_trajectories)
        reward = MatchingReward(spaces, config)
        verbs = Verbs(
            sampler=AgentTrajectories(here.collector, config.round.sampling()),
            reward=MatchingStep(demonstrations.trajectories, config, horizon=horizon),
            policy=SoftActorCritic(here.collector, config.round.episodes, relabelled),
        )
        return here.run(
            verbs,
            learner,
            reward,
            Codecs(policy=LearnerCodec(learner), reward=RewardCodec(reward)),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: {"demonstrations": demonstrations.report.sha256},
            **trainer,
        )
