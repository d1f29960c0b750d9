"""Online maximum-likelihood IRL (thesis Alg. 2), as the verbs of core's round loop.

    max_theta E_E[sum_t gamma^t log pi_theta(a_t|s_t)]
    s.t.      pi_theta = argmax_pi E_pi[sum_t gamma^t (r(s_t, a_t; theta) + alpha H(pi(.|s_t)))]

A round k, warm-started from the one before:

    sample    trajectories of pi_k; in round 0 of uniform actions
    reward    theta_{k+1}: Adam on E_A[sum_t r(s_t, a_t; theta)] - E_E[sum_t r(s_t, a_t; theta)]
    policy    pi_{k+1}: episodes of SAC, where a transition's reward is that of r_{k+1} at the
              moment at which its batch is drawn
    evaluate  the true return, which nothing else here ever sees

The paper's box improves first; warm-started, that is the same sequence (see `core.trainer`). A
sample's steps count as environment steps, and the policy learns from them, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from irl_align.control.absorbing import padded_with_absorbing_states
from irl_align.control.assembly import world
from irl_align.control.buffers import Batch
from irl_align.control.config import MLIRLConfig, RoundConfig
from irl_align.control.looping import Verbs
from irl_align.control.policies import Policy, RandomPolicy
from irl_align.control.reward_fit import LearnedReward, RewardCodec, Weighted, fit_reward
from irl_align.control.rollouts import Collector
from irl_align.control.sac.batches import Relabelled
from irl_align.control.sac.compiling import threads_for
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.trajectories import Trajectories
from irl_align.control.transitions import Transitions
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result


@dataclass(frozen=True)
class Samples:
    """What the reward step sees of the agent.

    Attributes:
        fresh: the same, where nobody has counted their steps and the policy has not learned from
            them yet; None where they are training episodes.
        alpha: temperature of the policy that made them.
        replay: transitions from all of the agent's past; None when none are asked for.
    """

    trajectories: Trajectories
    fresh: Trajectories | None
    alpha: float
    replay: Batch | None


class AgentTrajectories:
    """The sample verb: the latest training episodes, or fresh ones of the stochastic policy."""

    def __init__(self, collector: Collector, config: RoundConfig) -> None:
        self.collector, self.config = collector, config

    def sample(self, policy: Learner, ctx: PhaseContext, /) -> tuple[Samples, Metrics]:
        count = self.config.agent_trajectories
        first = len(policy.buffer) == 0
        if not first and self.config.samples == "training":
            trajectories = Trajectories(list(policy.latest)[-count:])
            return self._samples(policy, trajectories, None, ctx), {}
        act: Policy = policy.agent.acting.stochastic(ctx.seed)
        if first:
            act, count = RandomPolicy(policy.spaces, ctx.seed), policy.config.random_episodes
        trajectories = self.collector.collect(act, count, seed=ctx.seed).trajectories
        return self._samples(policy, trajectories, trajectories, ctx), {}

    def _samples(
        self,
        policy: Learner,
        trajectories: Trajectories,
        fresh: Trajectories | None,
        ctx: PhaseContext,
    ) -> Samples:
        return Samples(trajectories, fresh, policy.agent.alpha, self._replay(policy, ctx))

    def _replay(self, policy: Learner, ctx: PhaseContext) -> Batch | None:
        if not self.config.replay_share or len(policy.buffer) == 0:
            return None
        # With a generator of the phase's own, the replay's next draws are what they were.
        generator = torch.Generator().manual_seed(ctx.seed)
        shape = (self.config.replay_steps,)
        index = torch.randint(len(policy.buffer), shape, generator=generator)
        return policy.buffer.layout.unpack(policy.buffer.rows(index))


class LikelihoodStep:
    """The reward verb: see `reward_fit`."""

    def __init__(self, demonstrations: Trajectories, config: MLIRLConfig, *, horizon: int) -> None:
        self.demonstrations, self.config, self.horizon = demonstrations, config, horizon
        self.gamma = config.sac.gamma if config.reward.discount_in_gradient else 1.0
        self._all = self._weighted(demonstrations)

    def fit(
        self, reward: LearnedReward, samples: Samples, ctx: PhaseContext, /
    ) -> tuple[LearnedReward, Metrics]:
        # The scale of a reward means something only beside the temperature it was learned with.
        reward.facts["alpha"] = samples.alpha
        if self.config.reward.anneal:
            used = ctx.history[-1]["steps/environment"] if ctx.history else 0.0
            reward.slow_down(max(0.0, 1.0 - used / self.config.environment_steps))
        with threads_for(self.config.reward.hidden):
            metrics = fit_reward(
                reward,
                self._expert(ctx.seed),
                self._weighted(
                    samples.trajectories, cut=self.config.environment.cut_after_fall is not None
                ),
                replay=samples.replay,
                replay_share=self.config.round.replay_share,
                seed=ctx.seed,
            )
        return reward, metrics

    def _expert(self, seed: int) -> Weighted:
        count = self.config.round.expert_trajectories
        if count is None or count >= len(self.demonstrations):
            return self._all
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.demonstrations), size=count, replace=False)
        return self._weighted(self.demonstrations.select(int(number) for number in chosen))

    def _weighted(self, trajectories: Trajectories, *, cut: bool = False) -> Weighted:
        if self.config.environment.absorbing:
            trajectories = padded_with_absorbing_states(trajectories, self.horizon)
        return Weighted.of(trajectories, self.horizon, self.gamma, cut=cut)


def relabelled(policy: Learner, reward: LearnedReward, seed: int) -> Relabelled:
    """The replay with the rewards of this round, at the moment at which a batch is drawn."""
    return Relabelled(policy.buffer, reward.net)


def ml_irl(
    config: MLIRLConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, LearnedReward]:
    """Run or resume what `config` describes, until its environment steps are used up.

    Args:
        keep: with False nothing is written.
        trainer: what else BilevelTrainer takes (`callbacks`).

    The history holds the metrics of `ReturnEvaluator`, `fit_reward` and `train`. Raises UserError
    when the demonstrations cannot be used, before anything is run.
    """
    with world(config) as here:
        spaces = here.spaces
        demonstrations = here.demonstrations(config.demonstrations)
        horizon = max(spaces.max_episode_steps or 0, max(demonstrations.report.lengths))
        learner = here.learner(remember=config.round.agent_trajectories)
        reward = LearnedReward(
            spaces.observation_dim, spaces.action_dim, config.reward, seed=config.seed
        )
        reward.look_at(Transitions.of(demonstrations.trajectories).batch)
        reward.facts["environment"] = spaces.environment
        verbs = Verbs(
            sampler=AgentTrajectories(here.collector, config.round),
            reward=LikelihoodStep(demonstrations.trajectories, config, horizon=horizon),
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
