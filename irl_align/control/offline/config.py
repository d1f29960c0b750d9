"""The configuration of learning in a world model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from irl_align.control.config import ControlConfig, DemonstrationConfig, RewardConfig
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.penalties import PENALTIES
from irl_align.core.checks import choice, not_negative, positive

__all__ = [
    "TRUE_REWARD",
    "ComparisonConfig",
    "ImaginationConfig",
    "MOPOConfig",
    "OfflineConfig",
    "OfflineMLIRLConfig",
]

TRUE_REWARD = "true_reward"


@dataclass
class ImaginationConfig:
    """What the policy learns from: a conservative MDP, rewards r - penalty_coef u(s, a)."""

    epochs: int = 20  # of a round: new rollouts, then updates
    starts: int = 50_000  # states of the data set that an epoch's rollouts begin at
    horizon: int = 5  # their steps
    continued: float = 0.0  # share of the starts that are states of the newest rollouts instead
    updates: int = 1_000  # of SAC in an epoch
    real_share: float = 0.05  # of a batch that is the data set's own
    penalty: str = "mopo_default"  # u; see `world_model.penalties`
    penalty_coef: float = 1.0

    def __post_init__(self) -> None:
        choice("penalty", self.penalty, tuple(PENALTIES))
        positive(self, "epochs", "starts", "horizon", "updates")
        not_negative(self, "penalty_coef")
        if not 0 <= self.real_share < 1:
            raise ValueError(f"real_share is {self.real_share}; it must be in [0, 1)")
        if not 0 <= self.continued < 1:
            raise ValueError(f"continued is {self.continued}; it must be in [0, 1)")


@dataclass
class ComparisonConfig:
    """What the reward step compares: the expert's steps, and the policy's in the world model.

    `start` says where both begin. expert: where the demonstrations do (the authors' code).
    anywhere: at any of their states, each rollout beside what the expert did from there; the
    likelihood of actions holds from any state on. dataset: the expert as above, rollouts where the
    data set's episodes begin, which are draws from the environment's own first states (Lemma 10).
    """

    start: str = "expert"
    rollouts: int = 50
    horizon: int = 200  # steps on either side; fewer where a demonstration was cut earlier
    replay_share: float = 0.0  # of the policy's side that comes from all imagined transitions kept
    replay_steps: int = 1_000  # drawn from them for that

    def __post_init__(self) -> None:
        choice("start", self.start, ("expert", "anywhere", "dataset"))
        positive(self, "rollouts", "horizon", "replay_steps")
        if not 0 <= self.replay_share < 1:
            raise ValueError(f"replay_share is {self.replay_share}; it must be in [0, 1)")


@dataclass
class OfflineConfig(ControlConfig):
    """What every learner in a world model has.

    Of `sac`, `capacity` is that of the imagined transitions, `update_every` updates are made in one
    call and `average_over` counts updates. `environment_steps` plays no part: there are none but in
    evaluations.
    """

    rounds: int = 50
    save_every: int = 1
    dataset: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)
    scores: Optional[str] = None  # d4rl, or a table of eval/control_references.py; None: none

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rounds")
        if self.environment.absorbing:
            raise ValueError(
                "environment.absorbing must be false: a data set has no absorbing flag; an early "
                "end is worth 0 there"
            )
        if self.imagination.updates % self.sac.update_every:
            raise ValueError(
                f"imagination.updates is {self.imagination.updates}, which is no multiple of "
                f"sac.update_every, {self.sac.update_every}"
            )


@dataclass
class OfflineMLIRLConfig(OfflineConfig):
    """Offline ML-IRL (thesis Alg. 3) on one data set."""

    run_dir: str = "runs/offline_ml_irl"
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)


@dataclass
class MOPOConfig(OfflineConfig):
    """A policy for a reward that does not change: a learned one, or as a yardstick the true one."""

    run_dir: str = "runs/mopo"
    # A saved reward, or a run with one; or `true_reward`: what the data set's own rewards say.
    reward: str = "???"
