"""Conservative Q-learning (Kumar et al. 2020) on the true reward, for a learned one to be held to.

The lower level of BiCQL-ML and nothing else: soft targets, CQL(H) on the data, a policy that is
exp Q. The true reward comes in through one object, `TransitionRewards`, which the function is given
or takes from the data's file; the learners of rewards never see it.

The temperature is 1, so the scale of the rewards says how deterministic the policy is:
`reward_scale` sets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from irl_align.control.bicql.config import (
    ActingConfig,
    ConservativeConfig,
    CriticConfig,
    ProposalConfig,
)
from irl_align.control.bicql.judging import Judged
from irl_align.control.bicql.learner import QLearner, QLearnerCodec, named
from irl_align.control.bicql.proposals import clone_of
from irl_align.control.fixed_data import FixedDataConfig, fixed_data
from irl_align.control.looping import Verbs
from irl_align.control.sac.compiling import threads_for
from irl_align.control.transitions import Transitions
from irl_align.control.true_rewards import TransitionRewards
from irl_align.core.checks import positive
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result


@dataclass
class CQLConfig(FixedDataConfig):
    """CQL on the true rewards of `dataset` (of the demonstrations where there are no other data).

    Of `conservative`, expert_weight plays no part: the data are all one.
    """

    run_dir: str = "runs/cql"
    critic: CriticConfig = field(default_factory=CriticConfig)
    conservative: ConservativeConfig = field(default_factory=ConservativeConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    acting: ActingConfig = field(default_factory=ActingConfig)
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "reward_scale")


class TrueRewardQ:
    """The policy verb: K_Q updates on batches of D with the rewards that the environment gave."""

    def __init__(self, data: Transitions, rewards: TransitionRewards, config: CQLConfig) -> None:
        self.data, self.config = data, config
        self.rewards = config.reward_scale * torch.from_numpy(rewards.values)

    def improve(
        self, policy: QLearner, reward: object, samples: object, ctx: PhaseContext, /
    ) -> tuple[QLearner, Metrics]:
        config = self.config.critic
        generator = torch.Generator().manual_seed(ctx.seed)
        losses = []
        with threads_for(config.hidden):
            for _ in range(config.steps):
                # Both halves of a batch are drawn from D, so m is D whatever its weight.
                index = torch.randint(len(self.data), (2 * config.batch_size,), generator=generator)
                rows = self.data.rows.index_select(0, index)
                losses.append(policy.update(rows, self.rewards[index], generator))
        measured = torch.stack(losses).mean(dim=0)
        if not torch.isfinite(measured).all():
            raise UserError("Q is no longer finite; lower critic.learning_rate or reward_scale")
        return policy, named(measured)


def cql(
    config: CQLConfig,
    *,
    data: Transitions | None = None,
    true_rewards: TransitionRewards | None = None,
    loggers: Sequence[Logger] = (),
    keep: bool = True,
    **trainer: Any,
) -> Result[QLearner, None]:
    """Run or resume what `config` describes, until its rounds are done.

    Args:
        data, true_rewards: D in memory with its rewards, instead of `config.dataset`; both or none.
        keep, trainer: as of `bicql`.

    The history holds `policy/...` (`bicql.step.LOSSES`) and the metrics of `Judged`. Raises
    UserError when the data's file has no rewards, or they are not of these transitions.
    """
    with fixed_data(config) as here:
        spaces = here.spaces
        found = here.demonstrations()
        loaded = found if config.dataset is None else here.others()
        plain = here.data(data, loaded) if data is not None else Transitions.of(loaded.trajectories)
        if true_rewards is None and data is None and loaded.true_rewards is not None:
            true_rewards = TransitionRewards.of(loaded.true_rewards)
        if true_rewards is None:
            raise UserError(
                f"{loaded.report.source}: no rewards for every step; CQL on the true reward needs "
                "them (for transitions in memory: give true_rewards)"
            )
        if len(true_rewards) != len(plain):
            raise UserError(f"{len(true_rewards)} true rewards for {len(plain)} transitions")
        others = plain.with_one_hot_actions(spaces)
        shown = Transitions.of(found.trajectories).with_one_hot_actions(spaces)
        learner = QLearner(
            spaces,
            others.layout,
            config.critic,
            config.conservative,
            config.proposals,
            config.acting,
            clone=clone_of(spaces, config.proposals, others, seed=config.seed),
            seed=config.seed,
            planned_updates=config.rounds * config.critic.steps,
        )
        sources = {"demonstrations": found.report.sha256, "dataset": others.sha256()}
        verbs: Verbs[QLearner, None] = Verbs(policy=TrueRewardQ(others, true_rewards, config))
        return here.run(
            verbs,
            learner,
            None,
            Codecs(policy=QLearnerCodec(learner)),
            evaluator=Judged(here.evaluator, shown, others),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: sources,
            **trainer,
        )
