"""Plain reinforcement learning on core's round loop: SAC on a reward that does not change.

A round is one episode and the updates on the way. On the true reward this makes experts; on a
learned reward that is frozen it says what that reward is worth to an agent that was not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from irl_align.control.assembly import world
from irl_align.control.config import ExpertConfig
from irl_align.control.looping import Verbs
from irl_align.control.sac.batches import BatchSource, Relabelled, RewardFunction
from irl_align.control.sac.expert import ExpertCodec, NotingEnvironment, TrueRewardSource
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.spaces import Spaces
from irl_align.control.transfer import frozen_reward, reward_file
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs
from irl_align.core.trainer import Result


def train_on_fixed_reward(
    config: ExpertConfig,
    *,
    reward: RewardFunction | None = None,
    loggers: Sequence[Logger] = (),
    keep: bool = True,
) -> Result[Learner, None]:
    """Run or resume what `config` describes, until its environment steps are used up.

    Args:
        reward: of single steps, without state; by default the net that `config.reward` names, or
            the true reward where it names none.
        keep: with False nothing is written.

    The history holds the metrics of `ReturnEvaluator` and `train`. Raises UserError when the saved
    reward does not fit the environment.
    """
    on_true_reward = reward is None and config.reward is None
    with world(config, wrapped=NotingEnvironment if on_true_reward else None) as here:
        learner = here.learner()
        codec: LearnerCodec
        source: BatchSource
        if on_true_reward:
            source = true = TrueRewardSource(learner.buffer, here.environment)
            codec = ExpertCodec(learner, true)
        else:
            reward = reward or _frozen(config, here.spaces)
            source, codec = Relabelled(learner.buffer, reward), LearnerCodec(learner)
        verbs: Verbs[Learner, None] = Verbs(
            policy=SoftActorCritic(here.collector, 1, lambda mine, reward, seed: source)
        )
        return here.run(verbs, learner, None, Codecs(policy=codec), loggers=loggers, keep=keep)


def _frozen(config: ExpertConfig, spaces: Spaces) -> RewardFunction:
    return frozen_reward(reward_file(str(config.reward), config.seed), spaces).function
