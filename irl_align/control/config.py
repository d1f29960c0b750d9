"""The configuration of a control experiment: one YAML = one experiment.

Every key has a default; `configs/control/` holds the experiments and presets, and says where the
values come from. Round, step and seed of a phase are state and never appear here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from irl_align.core.checks import choice, not_negative, positive

__all__ = [
    "ControlConfig",
    "DemonstratedConfig",
    "DemonstrationConfig",
    "EnvironmentConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "ExpertConfig",
    "MLIRLConfig",
    "RewardConfig",
    "RoundConfig",
    "SACConfig",
]


def _hidden(widths: list[int]) -> None:
    if any(width < 1 for width in widths):
        raise ValueError(f"hidden is {list(widths)!r}; give the width of each hidden layer")


@dataclass
class EnvironmentConfig:
    """The environment; see `environments.making.make`."""

    name: str = "Pendulum"
    max_episode_steps: Optional[int] = None  # None: the registered time limit
    fixed_horizon: bool = False  # episodes last to the time limit, whatever happens
    absorbing: bool = False  # an early end is a state of its own (`control.absorbing`)
    # With fixed_horizon: training starts anew so many steps after a fall. Evaluations do not.
    cut_after_fall: Optional[int] = None

    def options(self, *, training: bool = False) -> dict[str, Any]:
        """Arguments of `make` besides the name."""
        return {
            "cut_after_fall": self.cut_after_fall if training else None,
            "max_episode_steps": self.max_episode_steps,
            "fixed_horizon": self.fixed_horizon,
            "absorbing_flag": self.absorbing,
        }

    def __post_init__(self) -> None:
        if self.fixed_horizon and self.absorbing:
            raise ValueError(
                "fixed_horizon and absorbing are two answers to one question; set one of them"
            )
        if self.cut_after_fall is not None and not self.fixed_horizon:
            raise ValueError("cut_after_fall is for environments with fixed_horizon=true")


@dataclass
class SACConfig:
    """The policy learner."""

    hidden: list[int] = field(default_factory=lambda: [64, 64])
    activation: str = "relu"
    learning_rate: float = 1e-3  # of actor, critics and temperature
    actor_learning_rate: Optional[float] = None  # None: learning_rate
    gamma: float = 0.99
    tau: float = 0.005  # the share of the critics that flows into their targets at an update
    batch_size: int = 100
    alpha: Optional[float] = None  # None: tuned to the target entropy
    initial_alpha: float = 0.2  # where tuning starts
    target_entropy: Optional[float] = None  # None: -A
    capacity: int = 1_000_000  # of the replay buffer
    update_every: int = 4  # steps between updates; so many updates are then made in one call
    random_episodes: int = 1  # of uniform actions, before anything is learned
    absorbing_transitions: int = 10  # stored after each early end, in absorbing environments
    # Environment steps (offline: updates) that the actor is averaged over, for what is evaluated
    # and saved; None: the latest one, which under a moving reward is now better, now worse.
    average_over: Optional[int] = None
    compile: str = "auto"  # auto (where possible and worth it), always, never

    def __post_init__(self) -> None:
        _hidden(self.hidden)
        choice("activation", self.activation, ("relu", "tanh", "silu"))
        choice("compile", self.compile, ("auto", "always", "never"))
        positive(self, "learning_rate", "batch_size", "capacity", "update_every", "random_episodes")
        positive(self, "initial_alpha", "absorbing_transitions")
        if not 0 < self.gamma < 1 or not 0 < self.tau <= 1:
            raise ValueError(
                f"need gamma in (0, 1) and tau in (0, 1], got {self.gamma}, {self.tau}"
            )
        if self.average_over is not None and self.average_over < 1:
            raise ValueError(f"average_over is {self.average_over}; give environment steps or null")
        if self.actor_learning_rate is not None:
            positive(self, "actor_learning_rate")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}; it must be positive, or null to be tuned")


@dataclass
class EvaluationConfig:
    """Episodes whose true return is reported, and used for nothing else. Their steps are counted
    apart from those of training."""

    every: int = 5  # rounds; 0 never evaluates
    episodes: int = 10  # each from a start that is the same in every evaluation
    deterministic: bool = True
    seed: int = 10_000

    def __post_init__(self) -> None:
        not_negative(self, "every")
        positive(self, "episodes")


@dataclass
class DemonstrationConfig:
    """What the expert did; see `demonstrations.loading`."""

    path: str = "???"
    count: Optional[int] = None  # trajectories; None: all
    seed: Optional[int] = None  # None: the first `count`; a number: `count` at random
    on_bad: str = "error"

    def __post_init__(self) -> None:
        choice("on_bad", self.on_bad, ("error", "drop"))


@dataclass
class RewardConfig:
    """The reward net and its fit (the outer level)."""

    inputs: str = "state"  # state | state_action
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    activation: str = "relu"
    bound: Optional[float] = 10.0  # of the soft bound; None: unbounded
    spectral_norm: bool = False
    # Measure what r sees in the demonstrations' standard deviations (of 0.1 at least): a robot's
    # joints turn fast and its posture hardly moves, but counts.
    standardised: bool = False
    columns: Optional[list[int]] = None  # of the observations that r sees, from 0; None: all
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3  # Adam's own, as L2 in the gradient
    steps: int = 1  # Adam steps a round
    # Learning rate and trust region fall linearly to nothing at the end of the run's environment
    # steps: under a reward that keeps moving no policy settles.
    anneal: bool = False
    discount_in_gradient: bool = False  # weigh step t by gamma^t, as the theory has it
    l2: float = 0.0  # times E[r^2], r before its bound, as in the next two
    # After every step, shift r so that its mean over the demonstrations is 0 before the bound. A
    # constant is free where every episode lasts as long as any other; left alone it drifts to the
    # bound, where all that is good looks alike. Refused where episodes end early without absorbing
    # states: there a constant says how good it is to live on.
    centre: bool = False
    gradient_penalty: float = 0.0  # times E[|d r / d input|^2] between demonstrations and samples
    trust_region: Optional[float] = None  # most that a round may move r, root mean square
    average: Optional[float] = None  # decay per round of a moving average that is saved beside r

    def __post_init__(self) -> None:
        choice("inputs", self.inputs, ("state", "state_action"))
        choice("activation", self.activation, ("relu", "tanh"))
        _hidden(self.hidden)
        positive(self, "learning_rate", "steps")
        not_negative(self, "weight_decay", "l2", "gradient_penalty")
        if self.bound is not None and not self.bound > 0:
            raise ValueError(f"bound is {self.bound}; it must be positive, or null for none")
        if self.trust_region is not None and not self.trust_region > 0:
            raise ValueError(f"trust_region is {self.trust_region}; give a positive number or null")
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"average is {self.average}; it must be in (0, 1), or null")


@dataclass
class RoundConfig:
    """What a round is made of."""

    episodes: int = 1  # that the policy learns from
    samples: str = "training"  # training: its latest training episodes; fresh: episodes of its own
    agent_trajectories: int = 5  # that the reward step sees
    expert_trajectories: Optional[int] = None  # drawn anew each round; None: all
    replay_share: float = 0.0  # of the agent's side that comes from the whole replay buffer
    replay_steps: int = 1_000  # drawn from it for that

    def __post_init__(self) -> None:
        choice("samples", self.samples, ("training", "fresh"))
        positive(self, "episodes", "agent_trajectories", "replay_steps")
        if self.expert_trajectories is not None and self.expert_trajectories < 1:
            raise ValueError(f"expert_trajectories is {self.expert_trajectories}; give 1 or more")
        if not 0 <= self.replay_share < 1:
            raise ValueError(f"replay_share is {self.replay_share}; it must be in [0, 1)")


@dataclass
class ExperimentConfig:
    """What every experiment has."""

    run_dir: str = "runs/control"
    seed: int = 0
    save_every: int = 10  # rounds between commits; a crash costs those since
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        positive(self, "save_every")


@dataclass
class ControlConfig(ExperimentConfig):
    """What every experiment on SAC has."""

    environment_steps: int = 100_000  # of training and samples; the run ends with the round there
    sac: SACConfig = field(default_factory=SACConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "environment_steps")


@dataclass
class DemonstratedConfig(ControlConfig):
    """What every learner from demonstrations has."""

    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)


@dataclass
class MLIRLConfig(DemonstratedConfig):
    """Online ML-IRL (thesis Alg. 2) on one environment."""

    run_dir: str = "runs/ml_irl"
    reward: RewardConfig = field(default_factory=RewardConfig)
    round: RoundConfig = field(default_factory=RoundConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.environment.absorbing and self.round.replay_share:
            raise ValueError(
                "round.replay_share must be 0 with environment.absorbing: the replay buffer holds "
                "some absorbing steps of an episode, not as many as its horizon has"
            )


@dataclass
class ExpertConfig(ControlConfig):
    """SAC on a reward that does not change: the true one, or a learned one that is frozen."""

    run_dir: str = "runs/expert"
    environment_steps: int = 20_000
    save_every: int = 25  # rounds, of one episode each
    reward: Optional[str] = None  # a saved reward, or a run with one; None: the environment's own
    demonstrations: Optional[str] = None  # where to record (.npz); None: nowhere
    episodes: int = 10  # to record
    deterministic: bool = True  # recorded without the policy's noise

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "episodes")
