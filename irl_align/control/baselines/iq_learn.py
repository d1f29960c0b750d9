"""IQ-Learn (Garg et al. 2021): a soft Q-function whose own reward explains the demonstrations.

SAC with the critics' loss of `iq_loss` on batches that are half demonstrations, half replay. No
reward is learned beside Q; the one that Q stands for is saved with every round (`RecoveredReward`).

Where the paper is silent: V(s) takes one draw a~ of the policy, and each critic its own (see
`iq_loss`); the actor learns on both halves of a batch, from the smaller critic; `v0` takes the
first states of the demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, cast

import torch
from torch import Tensor

from irl_align.control.assembly import world
from irl_align.control.baselines.beside_demonstrations import (
    HalfDemonstrations,
)
from irl_align.control.baselines.iq_loss import Squared, Value, iq_loss
from irl_align.control.baselines.recovered_reward import RecoveredReward, save_recovered_reward
from irl_align.control.buffers import ReplayBuffer
from irl_align.control.config import DemonstratedConfig, SACConfig
from irl_align.control.looping import Verbs
from irl_align.control.rollouts import Collector
from irl_align.control.sac.improvement import Sampled, SoftActorCritic
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.trajectories import Trajectories
from irl_align.core.checks import choice, positive
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result

REWARD = "recovered_reward.pt"


def _papers_sac() -> SACConfig:
    return SACConfig(
        hidden=[256, 256],
        learning_rate=3e-4,
        actor_learning_rate=3e-5,
        alpha=0.01,
        batch_size=512,  # 256 of either kind
    )


@dataclass
class IQLearnConfig(DemonstratedConfig):
    """IQ-Learn on one environment; `sac.batch_size` counts both halves.

    `sac.alpha` null tunes the temperature, which the authors advise against: a reward that is
    learned relative to a temperature that moves has no fixed scale.
    """

    run_dir: str = "runs/iq_learn"
    sac: SACConfig = field(default_factory=_papers_sac)
    episodes: int = 1  # a round
    loss: str = "value"  # value | value_expert | v0
    chi: Optional[float] = 0.5  # of the chi-square term E[r^2] / (4 chi); None: none
    squared: str = "both"  # over which half that expectation is: expert | both
    target: bool = False  # V(s') of the target critics, without a gradient

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("loss", self.loss, ("value", "value_expert", "v0"))
        choice("squared", self.squared, ("expert", "both"))
        positive(self, "episodes")
        if self.chi is not None and not self.chi > 0:
            raise ValueError(f"chi is {self.chi}; it must be positive, or null for no square")
        if self.sac.batch_size < 2:
            raise ValueError("sac.batch_size is 1; half of a batch is demonstrations, so 2 or more")


class _Episodes(SoftActorCritic[RecoveredReward]):
    """With what the recovered reward says of the demonstrations and of the agent's replay."""

    def __init__(self, collector: Collector, episodes: int, demonstrations: Tensor) -> None:
        self.demonstrations = demonstrations  # rows [M, width]
        super().__init__(
            collector,
            episodes,
            lambda mine, reward, seed: HalfDemonstrations(demonstrations, mine.buffer, seed=seed),
        )

    def improve(
        self,
        policy: Learner,
        reward: RecoveredReward,
        samples: Sampled | None,
        ctx: PhaseContext,
        /,
    ) -> tuple[Learner, Metrics]:
        policy, metrics = super().improve(policy, reward, samples, ctx)
        recovered, layout = RecoveredReward.of(policy.agent), policy.buffer.layout
        # As many rows of either kind: the agent's latest.
        agent = policy.buffer.recent(len(self.demonstrations))
        scores = {
            "reward/demo_score": recovered(*layout.unpack(self.demonstrations)).mean().item(),
            "reward/sample_score": recovered(*agent).mean().item(),
        }
        return policy, {**metrics, **scores}


class IQLearnerCodec(LearnerCodec):
    """A learner, with the reward that its critics stand for beside it."""

    def save(self, value: Learner, folder: Path, /) -> None:
        super().save(value, folder)
        save_recovered_reward(
            folder / REWARD,
            RecoveredReward.of(value.agent),
            hidden=value.config.hidden,
            environment=value.spaces.environment,
            alpha=value.agent.alpha,
        )


def iq_learn(
    config: IQLearnConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, RecoveredReward]:
    """Run or resume what `config` describes, until its environment steps are used up.

    Arguments and errors as of `ml_irl`. The history holds the metrics of `ReturnEvaluator`,
    `train` (`policy/critic_loss` is the loss of `iq_loss`) and `reward/{demo_score,sample_score}`:
    means of the recovered reward over the demonstrations and over as many of the agent's latest
    transitions.
    """
    with world(config) as here:
        demonstrations = here.demonstrations(config.demonstrations)
        critics = iq_loss(
            cast(Value, config.loss),
            starts=_starts(demonstrations.trajectories),
            chi=config.chi,
            squared=cast(Squared, config.squared),
            target=config.target,
        )
        learner = here.learner(critics=critics)
        expert = ReplayBuffer.of(demonstrations.trajectories, learner.buffer.absorbing_transitions)
        rows = expert.all_rows()
        verbs: Verbs[Learner, RecoveredReward] = Verbs(
            policy=_Episodes(here.collector, config.episodes, rows)
        )
        return here.run(
            verbs,
            learner,
            RecoveredReward.of(learner.agent),
            Codecs(policy=IQLearnerCodec(learner)),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: {"demonstrations": demonstrations.report.sha256},
            **trainer,
        )


def _starts(trajectories: Trajectories) -> Tensor:
    """[N, O]: the first state of each."""
    return torch.stack([torch.from_numpy(t.observations[0]) for t in trajectories])
