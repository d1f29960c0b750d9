"""The configuration of a world model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from irl_align.core.checks import choice, not_negative, positive

__all__ = ["WorldModelConfig"]


@dataclass
class WorldModelConfig:
    """The ensemble and its fit; the defaults are MOPO's, which offline ML-IRL's authors use."""

    path: Optional[str] = None  # a saved world model; None: fit one
    store: Optional[str] = None  # a folder that fits are left in, and taken from; None: none
    members: int = 7
    elites: int = 5  # that predict; uncertainty is over all members
    hidden: list[int] = field(default_factory=lambda: [200, 200, 200, 200])
    activation: str = "silu"
    learning_rate: float = 1e-3
    batch_size: int = 256  # of each member
    # L2 of each layer's weights, or one number for all of them.
    weight_decay: list[float] = field(default_factory=lambda: [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4])
    holdout: float = 0.2  # share of the transitions that no member learns from
    most_held_out: Optional[int] = 10_000  # that share goes no higher than this; None: no limit
    bootstrap: bool = True  # each member learns from a draw with replacement of its own
    standardised_targets: bool = False  # changes of state in units of their standard deviations
    # Next states stay within the box of those in the data; without it long rollouts drift away.
    stay_in_box: bool = False
    improvement: float = 0.01  # share by which the error must fall to count as progress
    patience: int = 5  # epochs without progress after which a member stops
    min_epochs: int = 0  # of each member, progress or not
    max_epochs: int = 1_000
    epoch_size: Optional[int] = None  # rows a member sees in an epoch; None: all of its draw
    termination: str = "auto"  # auto (known for the environment, or learned), learned, never
    compile: str = "auto"  # auto (where possible and worth it), always, never

    def __post_init__(self) -> None:
        choice("activation", self.activation, ("relu", "tanh", "silu"))
        choice("termination", self.termination, ("auto", "learned", "never"))
        choice("compile", self.compile, ("auto", "always", "never"))
        positive(self, "members", "elites", "learning_rate", "batch_size", "patience", "max_epochs")
        not_negative(self, "improvement", "min_epochs")
        if self.elites > self.members:
            raise ValueError(f"elites is {self.elites}, but there are {self.members} members")
        if not self.hidden or any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {list(self.hidden)!r}; give the width of each layer")
        if len(self.weight_decay) not in (1, len(self.hidden) + 1):
            raise ValueError(
                f"weight_decay has {len(self.weight_decay)} numbers for {len(self.hidden) + 1} "
                "layers; give one for each, or one for all"
            )
        if any(decay < 0 for decay in self.weight_decay):
            raise ValueError("weight_decay has a negative number")
        if not 0 < self.holdout < 1:
            raise ValueError(f"holdout is {self.holdout}; it must be in (0, 1)")
        for key in ("most_held_out", "epoch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key} is {value}; give 1 or more, or null for none")

    @property
    def decay_of_layers(self) -> tuple[float, ...]:
        """One number for each layer."""
        decay = tuple(self.weight_decay)
        return decay * (len(self.hidden) + 1) if len(decay) == 1 else decay
