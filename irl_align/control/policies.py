"""What counts as a policy here: a callable from observations to actions, both numpy.

A stochastic policy brings its own generator, so that it can be seeded and saved with its owner.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Floats


class Policy(Protocol):
    """Observation [O] -> action [A], and, for use with several environments, [B, O] -> [B, A].

    Observations are float32. Actions are in the environment's units; a discrete action is its
    index.
    """

    def __call__(self, observation: Floats, /) -> Any: ...


class RandomPolicy:
    """Uniform in the box of actions, or over the indices: what fills a buffer before learning.

    Raises ValueError when the box has no bounds.
    """

    def __init__(self, spaces: Spaces, seed: int) -> None:
        if not (np.isfinite(spaces.action_low).all() and np.isfinite(spaces.action_high).all()):
            raise ValueError(f"{spaces.environment} has actions without bounds")
        self._spaces, self._rng = spaces, np.random.default_rng(seed)

    def __call__(self, observation: Floats, /) -> NDArray[Any]:
        shape = (*observation.shape[:-1], self._spaces.action_dim)
        if self._spaces.discrete_actions is not None:
            return self._rng.integers(self._spaces.discrete_actions, size=shape)
        low, high = self._spaces.action_low, self._spaces.action_high
        return self._rng.uniform(low, high, shape).astype(np.float32)
