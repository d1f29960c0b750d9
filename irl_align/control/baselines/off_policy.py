"""The sample verb of methods that learn from the replay, not from fresh episodes."""

from __future__ import annotations

from dataclasses import dataclass

from irl_align.control.buffers import ReplayBuffer
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.policies import RandomPolicy
from irl_align.control.rollouts import Collector
from irl_align.control.sac.learner import Learner
from irl_align.control.trajectories import Trajectories
from irl_align.core.checks import positive
from irl_align.core.protocols import Metrics, PhaseContext


@dataclass
class EpisodesConfig:
    """What a round is made of."""

    episodes: int = 1  # that the policy learns from

    def __post_init__(self) -> None:
        positive(self, "episodes")


@dataclass(frozen=True)
class Past:
    """What the reward phase sees of the agent, and must leave as it is.

    Attributes:
        actor: the current policy.
        replay: every transition so far.
        new: environment steps since the last reward phase.
        fresh: in round 0 the episodes of uniform actions, which nobody has counted yet and the
            policy has not learned from yet; later None.
    """

    actor: SquashedGaussianActor
    replay: ReplayBuffer
    new: int
    fresh: Trajectories | None


class ReplaySampler:
    """The sample verb: the whole past, which costs nothing; in round 0 uniform actions.

    The learner must remember as many episodes as a round has.
    """

    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def sample(self, policy: Learner, ctx: PhaseContext, /) -> tuple[Past, Metrics]:
        actor, buffer = policy.agent.actor, policy.buffer
        if len(buffer):
            new = sum(len(trajectory) for trajectory in policy.latest)
            return Past(actor, buffer, new, None), {}
        act = RandomPolicy(policy.spaces, ctx.seed)
        episodes = policy.config.random_episodes
        fresh = self.collector.collect(act, episodes, seed=ctx.seed).trajectories
        replay = ReplayBuffer.of(fresh, buffer.absorbing_transitions)
        return Past(actor, replay, fresh.total_steps, fresh), {}
