"""Offline learning for a reward that does not change: MOPO (Yu et al. 2020).

With a learned reward this is reward transfer offline (thesis, Fig. 3.5): a reward from one data set
labels the states of another, and a policy is found there. With `reward: true_reward` it is the
yardstick, and the one learner here that a data set's own rewards reach (`offline.true_reward`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from irl_align.control.assembly import world
from irl_align.control.looping import Verbs
from irl_align.control.offline.config import TRUE_REWARD, MOPOConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.offline.improvement import ModelBasedSoftActorCritic
from irl_align.control.offline.preparing import model_learner, model_of
from irl_align.control.offline.true_reward import FittedTrueReward, fit_true_reward
from irl_align.control.offline_ml_irl import FREE_KEYS
from irl_align.control.sac.batches import RewardFunction
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.scores import reference
from irl_align.control.transfer import frozen_reward, reward_file
from irl_align.control.true_rewards import TrueRewards
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs
from irl_align.core.run import RunDirectory
from irl_align.core.seeding import derive_seed
from irl_align.core.trainer import Result

SETUP = "true_reward"


def mopo(
    config: MOPOConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, None]:
    """Run or resume what `config` describes, until its rounds are done.

    Arguments and history as of `offline_ml_irl`, without a reward's. Raises UserError when data set
    or reward cannot be used, before anything is run.
    """
    with world(config) as here:
        spaces = here.spaces
        here.evaluator.reference = reference(spaces.environment, config.scores)
        loaded = here.demonstrations(config.dataset)
        data = OfflineDataset.loaded(loaded)
        learner = model_learner(config, spaces)
        frozen = None
        if config.reward != TRUE_REWARD:
            frozen = frozen_reward(reward_file(config.reward, config.seed), spaces)
        elif loaded.true_rewards is None:
            raise UserError(
                f"{config.dataset.path}: no rewards in it (or not one finite number a step), so "
                "reward=true_reward has nothing to go by; name a saved reward"
            )
        with here.directory(keep, FREE_KEYS) as run:
            function: RewardFunction
            if loaded.true_rewards is not None and frozen is None:
                function = _true_reward(config, data, loaded.true_rewards, run, loggers)
            else:
                assert frozen is not None
                function = frozen.function
            model = model_of(config, spaces, data, None, run, loggers)
            verbs: Verbs[Learner, None] = Verbs(
                policy=ModelBasedSoftActorCritic(
                    model, data, config.imagination, lambda nothing: function
                )
            )
            return here.run(
                verbs,
                learner,
                None,
                Codecs(policy=LearnerCodec(learner)),
                loggers=loggers,
                keep=keep,
                directory=run,
                rounds=config.rounds,
                manifest=lambda number: {
                    "dataset": data.report.sha256,
                    "reward": frozen.sha256 if frozen is not None else TRUE_REWARD,
                },
                **trainer,
            )


def _true_reward(
    config: MOPOConfig,
    data: OfflineDataset,
    rewards: TrueRewards,
    run: RunDirectory | None,
    loggers: Sequence[Logger],
) -> FittedTrueReward:
    if run is not None and run.setup_done(SETUP):
        run.verify_setup(SETUP)
        return FittedTrueReward.load(run.setup_folder(SETUP))
    start, seed = time.perf_counter(), derive_seed(config.seed, round=0, phase=SETUP)
    found = fit_true_reward(data, rewards, seed=seed)
    metrics = {"reward/explained": found.explained}
    for logger in loggers:
        logger.log(0, metrics, SETUP)
    if run is not None:
        found.save(run.begin_setup(SETUP))
        run.commit_setup(SETUP, metrics, time.perf_counter() - start, seed)
    return found
