"""DAC (Kostrikov et al. 2019): GAIL off-policy, with absorbing states and a penalised classifier.

Everything that DAC adds to GAIL is a setting of `gail`, so this is that function with the paper's:

    environment.absorbing         an early end is a state of its own, on both sides
    sac.absorbing_transitions     10 of them are stored behind each early end
    the replay as it is           the agent's batches come without importance weights
    reward.form = logit           log D - log(1 - D), of either sign, since no sign is right
    discriminator                 256 x 2 tanh, gradient penalty 10, a step for each of the agent's

The policy learner is SAC, where the paper has TD3. Weights that undo the subsampling of
demonstrations are left out, because demonstrations are whole trajectories here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from irl_align.control.baselines.discriminator import ClassifierConfig, Discriminator
from irl_align.control.baselines.gail import GAILConfig, gail
from irl_align.control.config import EnvironmentConfig
from irl_align.control.sac.learner import Learner
from irl_align.core.loggers import Logger
from irl_align.core.trainer import Result


def _absorbing() -> EnvironmentConfig:
    return EnvironmentConfig(absorbing=True)


def _penalised() -> ClassifierConfig:
    return ClassifierConfig(
        hidden=[256, 256],
        activation="tanh",
        bound=None,
        learning_rate=1e-3,
        every=1,
        gradient_penalty=10.0,
    )


@dataclass
class DACConfig(GAILConfig):
    """DAC on one environment. A comparison that sets `environment` sets `absorbing`, too."""

    run_dir: str = "runs/dac"
    environment: EnvironmentConfig = field(default_factory=_absorbing)
    discriminator: ClassifierConfig = field(default_factory=_penalised)


def dac(
    config: DACConfig, *, loggers: Sequence[Logger] = (), keep: bool = True, **trainer: Any
) -> Result[Learner, Discriminator]:
    """Run or resume what `config` describes; arguments, history and errors as of `gail`."""
    return gail(config, loggers=loggers, keep=keep, **trainer)
