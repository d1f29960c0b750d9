"""The configuration of BiCQL-ML. The paper leaves every number open; the defaults are ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from irl_align.control.config import RewardConfig
from irl_align.control.fixed_data import FixedDataConfig
from irl_align.core.checks import choice, not_negative, positive

__all__ = [
    "ActingConfig",
    "AdvantageConfig",
    "BiCQLConfig",
    "ConservativeConfig",
    "CriticConfig",
    "MonitorConfig",
    "ProposalConfig",
    "SegmentConfig",
]


@dataclass
class CriticConfig:
    """Q and its updates (the lower level)."""

    hidden: list[int] = field(default_factory=lambda: [256, 256, 256])
    activation: str = "relu"
    members: int = 2  # critics; the smaller one counts
    learning_rate: float = 3e-4
    gamma: float = 0.99
    tau: float = 0.005  # the share of the critics that flows into their targets at an update
    batch_size: int = 256  # of D, and as many of D_E
    steps: int = 50  # updates a round, K_Q
    gradient_clip: Optional[float] = 10.0  # of the gradient's norm; None: none
    compile: str = "auto"  # auto (where possible and worth it), always, never

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {list(self.hidden)!r}; give the width of each layer")
        choice("activation", self.activation, ("relu", "tanh", "silu"))
        choice("compile", self.compile, ("auto", "always", "never"))
        positive(self, "members", "learning_rate", "batch_size", "steps")
        if not 0 < self.gamma < 1 or not 0 < self.tau <= 1:
            raise ValueError(
                f"need gamma in (0, 1) and tau in (0, 1], got {self.gamma}, {self.tau}"
            )
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip is {self.gradient_clip}; it must be positive, or null")


@dataclass
class ConservativeConfig:
    """alpha (E[LSE Q] - E_m[Q]), m = w_E D_E + (1 - w_E) D: the only source of learning."""

    alpha: float = 5.0
    expert_weight: float = 0.8  # w_E; 1: the demonstrations alone are imitated, 0: D alone
    # Where the log-sum-exp is taken: mixture (m's states, the level of Q stays where it is) or data
    # (D's states, as in CQL: the level may run away, see tabular.bicql).
    states: str = "mixture"
    # The gap E[LSE Q] - E_m[Q] that alpha is tuned to by dual ascent; None: alpha is fixed. Over
    # m's states it is the policy's negative log-likelihood of m.
    target_gap: Optional[float] = None
    # Standard deviation of the noise on the actions of E_m[Q], in a box from -1 to 1; 0 is none. A
    # demonstrator without noise has an infinite density at its actions: Q would grow a needle there
    # that no sample of the log-sum-exp ever meets. For indices it plays no part.
    blur: float = 0.1
    alpha_learning_rate: float = 1e-3
    alpha_max: float = 100.0

    def __post_init__(self) -> None:
        choice("states", self.states, ("mixture", "data"))
        not_negative(self, "alpha", "blur")
        positive(self, "alpha_learning_rate", "alpha_max")
        if not 0 <= self.expert_weight <= 1:
            raise ValueError(f"expert_weight is {self.expert_weight}; it must be in [0, 1]")
        if self.target_gap is not None and not 0 < self.alpha <= self.alpha_max:
            raise ValueError(
                f"alpha is {self.alpha}; with a target_gap it is where tuning starts and must be "
                f"in (0, alpha_max = {self.alpha_max:g}]"
            )


@dataclass
class ProposalConfig:
    """Actions of a box that the log-sum-exp is estimated from, for each state."""

    uniform: int = 10
    cloned: int = 10  # around what a clone of the data does there
    near: int = 10  # around the data's action; only where there is one, not in s'
    near_std: float = 0.2  # where a box reaches from -1 to 1
    clone_hidden: list[int] = field(default_factory=lambda: [64, 64])
    clone_steps: int = 2_000  # of least squares, before the first round

    def __post_init__(self) -> None:
        positive(self, "uniform", "near_std", "clone_steps")
        not_negative(self, "cloned", "near")


HOLD = ("reward", "value", "nothing")


@dataclass
class AdvantageConfig:
    """The reward net and its regression onto the soft advantage (the upper level)."""

    inputs: str = "state_action"  # state | state_action
    hidden: list[int] = field(default_factory=lambda: [256, 256, 256])
    activation: str = "relu"
    bound: Optional[float] = 10.0  # of the soft bound, and of what it is regressed onto
    spectral_norm: bool = False
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 256
    steps: int = 10  # a round, K_R
    # soft_advantage; or zero: r goes to 0, and the conservative term alone is left of the method
    target: str = "soft_advantage"
    l2: float = 0.1  # times E_D[(r - elsewhere)^2]: r is learned on D_E, but used on all of D
    # What r is drawn to on D. 0 keeps it small; with data of others a negative number makes every
    # step that nobody demonstrated cost something, so that Q leads back to where they have been.
    # Where episodes end early that would also pay for ending: leave it at 0 there.
    elsewhere: float = 0.0
    # What is held at 0 over D_E: the mean reward, the mean value Q, or nothing. Where no episode
    # ends a constant in r is a constant in Q and nothing else: held by nothing it drifts to the
    # bound, where r has no gradient. The mean advantage is gamma times the policy's log density of
    # demonstrated actions, nats that grow with the number of joints. A reward without it has a Q
    # that sinks until -1 / (1 - gamma) times these nats; a Q without a level has a reward that says
    # how much better than nothing (`elsewhere`) it is to be where the demonstrator was. Where
    # episodes end a constant says what ending is worth. None: nothing there, else the reward.
    hold: Optional[str] = None  # reward | value | nothing

    def __post_init__(self) -> None:
        choice("target", self.target, ("soft_advantage", "zero"))
        positive(self, "batch_size", "steps")
        not_negative(self, "l2")
        if self.hold is not None:
            choice("hold", self.hold, HOLD)
        if self.target == "zero" and self.elsewhere != 0:
            raise ValueError(
                f"elsewhere is {self.elsewhere} and target zero: r would not be 0; set elsewhere=0"
            )
        self.net()

    def net(self) -> RewardConfig:
        """What of it a reward net is made of. Raises ValueError as that does."""
        return RewardConfig(
            inputs=self.inputs,
            hidden=self.hidden,
            activation=self.activation,
            bound=self.bound,
            spectral_norm=self.spectral_norm,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            steps=self.steps,
            l2=self.l2,
        )


@dataclass
class SegmentConfig:
    """Human preferences over segments; see `segments`."""

    path: Optional[str] = None  # None: none
    weight: float = 1.0  # of their loss, beside the regression's
    batch_size: int = 32

    def __post_init__(self) -> None:
        positive(self, "batch_size", "weight")


@dataclass
class ActingConfig:
    """Acting by resampling from exp Q."""

    proposals: int = 64
    refinements: int = 2  # without noise: searches around the best action, each half as wide

    def __post_init__(self) -> None:
        positive(self, "proposals")
        not_negative(self, "refinements")


@dataclass
class MonitorConfig:
    """The estimates of L_Q and L_ML; see `contraction`."""

    every: int = 0  # rounds; 0: never. A monitored round costs as much again.
    probes: int = 256  # transitions on which changes are measured
    size: float = 0.05  # of the change of r, root mean square

    def __post_init__(self) -> None:
        not_negative(self, "every")
        positive(self, "probes", "size")


@dataclass
class BiCQLConfig(FixedDataConfig):
    """BiCQL-ML on one environment."""

    run_dir: str = "runs/bicql"
    critic: CriticConfig = field(default_factory=CriticConfig)
    conservative: ConservativeConfig = field(default_factory=ConservativeConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    reward: AdvantageConfig = field(default_factory=AdvantageConfig)
    preferences: SegmentConfig = field(default_factory=SegmentConfig)
    acting: ActingConfig = field(default_factory=ActingConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
