"""SQIL (Reddy et al. 2020): soft Q-learning on the reward 1 for demonstrations, 0 for the agent.

    y = 1[demonstrated] + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a'|s'))

Every batch is half demonstrations, half replay; the rest is SAC as it stands. The paper's
experiments have no early ends. Where there are some, a reward of 0 or more pays for survival by
itself: take `environment.absorbing` or `environment.fixed_horizon` against that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from irl_align.control.assembly import world
from irl_align.control.baselines.beside_demonstrations import (
    HalfDemonstrations,
)
from irl_align.control.buffers import ReplayBuffer
from irl_align.control.config import DemonstratedConfig
from irl_align.control.looping import Verbs
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.core.checks import positive
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs
from irl_align.core.trainer import Result


@dataclass
class SQILConfig(DemonstratedConfig):
    """SQIL on one environment; `sac.batch_size` counts both halves."""

    run_dir: str = "runs/sqil"
    episodes: int = 1  # a round

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "episodes")
        if self.sac.batch_size < 2:
            raise ValueError("sac.batch_size is 1; half of a batch is demonstrations, so 2 or more")


def sqil(
    config: SQILConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, None]:
    """Run or resume what `config` describes, until its environment steps are used up.

    Arguments and errors as of `ml_irl`; the history holds the metrics of `ReturnEvaluator` and
    `train`.
    """
    with world(config) as here:
        demonstrations = here.demonstrations(config.demonstrations)
        learner = here.learner()
        expert = ReplayBuffer.of(demonstrations.trajectories, learner.buffer.absorbing_transitions)
        rows = expert.all_rows()
        verbs: Verbs[Learner, None] = Verbs(
            policy=SoftActorCritic(
                here.collector,
                config.episodes,
                lambda mine, reward, seed: HalfDemonstrations(rows, mine.buffer, seed=seed),
            )
        )
        return here.run(
            verbs,
            learner,
            None,
            Codecs(policy=LearnerCodec(learner)),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: {"demonstrations": demonstrations.report.sha256},
            **trainer,
        )
