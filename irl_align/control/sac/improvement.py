"""The policy verb of every learner here: episodes of SAC, whatever its batches are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol

from irl_align.control.rollouts import Collector
from irl_align.control.sac.batches import BatchSource
from irl_align.control.sac.learner import Learner
from irl_align.control.sac.training import train
from irl_align.control.trajectories import Trajectories
from irl_align.core.protocols import Metrics, PhaseContext, RewardT
from irl_align.core.seeding import derive_seed


class Sampled(Protocol):
    """What the policy phase must know of samples."""

    @property
    def fresh(self) -> Trajectories | None:
        """Episodes that cost environment steps which nobody has counted yet, and that the policy
        has not learned from yet; None when there are none."""
        ...


class SoftActorCritic(Generic[RewardT]):
    """Episodes of SAC, with one update for each step.

    Args:
        episodes: of a round.
        source: where batches come from, given learner, reward and the phase's seed.

    Round 0 begins with uniform actions: those that the sample phase made, or without a sampler
    `sac.random_episodes` of its own.
    """

    def __init__(
        self,
        collector: Collector,
        episodes: int,
        source: Callable[[Learner, RewardT, int], BatchSource],
    ) -> None:
        self.collector, self.episodes, self.source = collector, episodes, source

    def improve(
        self, policy: Learner, reward: RewardT, samples: Sampled | None, ctx: PhaseContext, /
    ) -> tuple[Learner, Metrics]:
        source = self.source(policy, reward, ctx.seed)
        if samples is not None:
            if samples.fresh is not None:
                policy.take(samples.fresh)
        elif ctx.round == 0:
            seed = derive_seed(ctx.seed, round=0, phase="random")
            episodes = policy.config.random_episodes
            train(policy, self.collector, source, episodes, seed=seed, random=True)
        _, metrics = train(policy, self.collector, source, self.episodes, seed=ctx.seed)
        return policy, metrics
