"""The configuration of a tabular experiment: one YAML = one experiment (``configs/tabular``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from irl_align.core.checks import choice, positive

__all__ = ["DemonstrationConfig", "ProblemConfig", "RewardConfig", "TabularConfig"]

INPUTS = ("state", "state_action")


@dataclass
class ProblemConfig:
    """The MDP, and the hidden reward: random weights on its features."""

    kind: str = "gridworld"  # gridworld | garnet
    gamma: float = 0.9
    seed: int = 0  # of the garnet, its features, and the hidden weights
    hidden_reward: str = "state"  # state | state_action: what the hidden reward looks at
    scale: float = 1.0  # standard deviation of the hidden weights
    # gridworld: its features are bumps x bumps Gaussian bumps on a lattice (times the action)
    rows: int = 5
    columns: int = 5
    slip: float = 0.1
    bumps: int = 3
    # garnet: its features are standard normal numbers
    states: int = 50
    actions: int = 4
    branching: int = 5
    features: int = 8

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("gridworld", "garnet"))
        choice("hidden_reward", self.hidden_reward, INPUTS)
        positive(self, "scale", "rows", "columns", "bumps", "states", "actions", "features")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; it must lie strictly between 0 and 1")
        if not 0 <= self.slip <= 1:
            raise ValueError(f"slip is {self.slip}; it must lie in [0, 1]")
        if not 1 <= self.branching <= self.states:
            raise ValueError(f"branching is {self.branching}; it must lie in [1, states]")


@dataclass
class DemonstrationConfig:
    """What the soft-optimal expert of the hidden reward shows."""

    count: Optional[int] = 500  # trajectories; None: its exact occupancy
    horizon: Optional[int] = None  # steps; None: until gamma^T is 0.001

    def __post_init__(self) -> None:
        for key in ("count", "horizon"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key} is {value}; it must be 1 or more, or null")


@dataclass
class RewardConfig:
    """The learned reward."""

    family: str = "linear"  # linear: in the features; tabular: one number each; neural: an MLP
    inputs: str = "state"  # state | state_action
    hidden: list[int] = field(default_factory=lambda: [32, 32])
    activation: str = "tanh"
    bound: Optional[float] = 10.0  # neural: of the soft bound; None: unbounded

    def __post_init__(self) -> None:
        choice("family", self.family, ("linear", "tabular", "neural"))
        choice("inputs", self.inputs, INPUTS)
        choice("activation", self.activation, ("relu", "tanh"))
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {list(self.hidden)!r}; give the width of each layer")
        if self.bound is not None and not self.bound > 0:
            raise ValueError(f"bound is {self.bound}; it must be positive, or null for none")


@dataclass
class TabularConfig:
    """ML-IRL (thesis Alg. 1) on one problem."""

    run_dir: str = "runs/tabular"
    seed: int = 0  # of the demonstrations, theta_0 and sampled gradients
    rounds: int = 500
    episodes: Optional[int] = None  # trajectories a round of each side; None: exact gradients
    optimiser: str = "gradient"  # gradient: alpha0 / rounds^sigma, as in Alg. 1; adam
    alpha0: float = 1.0
    sigma: float = 0.5
    learning_rate: float = 0.01  # of adam
    evaluate_every: int = 10  # rounds
    save_every: int = 50  # rounds between commits; a crash costs those since
    problem: ProblemConfig = field(default_factory=ProblemConfig)
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        choice("optimiser", self.optimiser, ("gradient", "adam"))
        positive(self, "rounds", "alpha0", "learning_rate", "evaluate_every", "save_every")
        if not 0 < self.sigma < 1:
            raise ValueError(f"sigma is {self.sigma}; it must lie strictly between 0 and 1")
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes is {self.episodes}; it must be 1 or more, or null")
        if self.episodes is not None and self.demonstrations.count is None:
            raise ValueError(
                "episodes asks for sampled gradients, which need sampled demonstrations: set "
                "demonstrations.count"
            )
