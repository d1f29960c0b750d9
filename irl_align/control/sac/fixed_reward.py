"""Plain reinforcement learning on core's round loop: SAC on a reward that does not change.

A round is one episode and the updates on the way. On the true reward this makes experts; on a
learned reward that is frozen it says what that reward is worth to an agent that was not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from irl_align.control.config import ExpertConfig
from irl_align.control.environments.making import make
from irl_align.control.evaluating import ReturnEvaluator, spent
from irl_align.control.networks.rewards import load_reward
from irl_align.control.rollouts import Collector
from irl_align.control.sac.batches import BatchSource, Relabelled, RewardFunction
from irl_align.control.sac.expert import ExpertCodec, NotingEnvironment, TrueRewardSource
from irl_align.control.sac.learner import ForgetReplay, Learner, LearnerCodec
from irl_align.control.sac.training import train
from irl_align.control.spaces import Spaces
from irl_align.core.config import to_dict
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.run import RunDirectory
from irl_align.core.trainer import BilevelTrainer, Result


class Episodes:
    """The policy verb: one episode, after `random_episodes` of uniform actions in round 0."""

    def __init__(self, collector: Collector, source: BatchSource) -> None:
        self.collector, self.source = collector, source

    def improve(
        self, policy: Learner, reward: object, samples: object, ctx: PhaseContext, /
    ) -> tuple[Learner, Metrics]:
        if ctx.round == 0:
            random = policy.config.random_episodes
            train(policy, self.collector, self.source, random, seed=ctx.seed ^ 1, random=True)
        _, metrics = train(policy, self.collector, self.source, 1, seed=ctx.seed)
        return policy, metrics


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
    env = make(config.environment.name, **config.environment.options())
    noting = NotingEnvironment(env)
    evaluator = ReturnEvaluator(config.environment, config.evaluation, config.environment_steps)
    try:
        spaces = Spaces.of(env)
        if reward is None and config.reward is not None:
            reward = _frozen(config.reward, spaces)
        learner = Learner(
            spaces,
            config.sac,
            seed=config.seed,
            absorbing=config.environment.absorbing,
            planned_updates=config.environment_steps,
        )
        codec: LearnerCodec
        source: BatchSource
        if reward is None:
            source = true = TrueRewardSource(learner.buffer, noting)
            collector, codec = Collector(noting), ExpertCodec(learner, true)
        else:
            source = Relabelled(learner.buffer, reward)
            collector, codec = Collector(env), LearnerCodec(learner)
        run = None
        if keep:
            run = RunDirectory(config.run_dir).open(
                to_dict(config), free_keys=("environment_steps", "run_dir")
            )
        try:
            loop: BilevelTrainer[Learner, None] = BilevelTrainer(
                None,
                None,
                Episodes(collector, source),
                evaluator,
                rounds=config.environment_steps,  # an episode has a step at least
                seed=config.seed,
                run=run,
                codecs=Codecs(policy=codec),
                save_every=config.save_every,
                callbacks=[ForgetReplay(run)] if run is not None else [],
                early_stop=lambda history: spent(config.environment_steps, history),
                loggers=loggers,
            )
            return loop.train(learner, None)
        finally:
            if run is not None:
                run.close()
    finally:
        env.close()
        evaluator.close()


def _frozen(path: str, spaces: Spaces) -> RewardFunction:
    reward, _ = load_reward(Path(path))
    wanted = reward.config["observation_dim"], reward.config["action_dim"]
    found = spaces.observation_dim, spaces.action_dim
    fits = wanted == found or (wanted[0] == found[0] and reward.inputs == "state")
    if not fits:
        raise UserError(
            f"{path}: a reward of {wanted[0]} observation and {wanted[1]} action numbers, but "
            f"{spaces.environment} has {found[0]} and {found[1]}; name the environment that it was "
            "learned in, or one with the same observations"
        )
    return reward
