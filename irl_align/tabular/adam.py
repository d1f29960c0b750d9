"""Adam (Kingma & Ba, 2015) uphill on a vector theta, with what a run must keep to go on equal.

For rewards whose parameters differ in scale, as a net's do. Theorem 2 is about plain steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array
from irl_align.tabular.codec import ArrayCodec

__all__ = ["Adam", "AdamCodec"]


@dataclass
class Adam:
    """Attributes beyond the settings: running means of g and g^2 ([d] each), steps so far.

    Raises UserError on a learning rate that is not positive.
    """

    learning_rate: float
    decay: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    first: Array = field(default_factory=lambda: np.zeros(0))
    second: Array = field(default_factory=lambda: np.zeros(0))
    count: int = 0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate must be positive, got {self.learning_rate}")

    def step(self, gradient: Array) -> Array:
        """What to add to theta to climb along ``gradient`` [d]: [d]."""
        if not self.count:
            self.first, self.second = np.zeros_like(gradient), np.zeros_like(gradient)
        one, two = self.decay
        self.first = one * self.first + (1 - one) * gradient
        self.second = two * self.second + (1 - two) * gradient**2
        self.count += 1
        mean = self.first / (1 - one**self.count)
        size = np.sqrt(self.second / (1 - two**self.count))
        return self.learning_rate * mean / (size + self.epsilon)


@dataclass(frozen=True)
class AdamCodec:
    """theta as ``theta.npy`` and the moments of ``adam`` beside it; loads into ``adam``.

    Loading raises UserError on a file that is missing or damaged.
    """

    adam: Adam

    def save(self, value: Array, folder: Path, /) -> None:
        ArrayCodec("theta").save(value, folder)
        ArrayCodec("moments").save(np.stack([self.adam.first, self.adam.second]), folder)
        ArrayCodec("count").save(np.array(float(self.adam.count)), folder)

    def load(self, folder: Path, /) -> Array:
        theta = ArrayCodec("theta").load(folder)
        self.adam.first, self.adam.second = ArrayCodec("moments").load(folder)
        self.adam.count = int(ArrayCodec("count").load(folder))
        return theta
