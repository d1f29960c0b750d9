"""What a learner needs to know of an environment: dimensions, action bounds, time limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from irl_align.control.trajectories import Floats
from irl_align.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Spaces:
    """Plain facts, so that learners and data checks work without an environment at hand.

    Attributes:
        environment: its gymnasium id, for messages.
        observation_dim: O.
        action_low, action_high: [A], the box of actions in the environment's units.
        max_episode_steps: the time limit; None when there is none.
        discrete_actions: number of actions when they are indices (A = 1); None for a box.
    """

    environment: str
    observation_dim: int
    action_low: Floats
    action_high: Floats
    max_episode_steps: int | None = None
    discrete_actions: int | None = None

    @property
    def action_dim(self) -> int:
        return len(self.action_low)

    @classmethod
    def of(cls, env: Any) -> Spaces:
        """The facts of a gymnasium environment.

        Raises UserError unless observations are one vector and actions one vector or one index.
        """
        from gymnasium.spaces import Box, Discrete

        spec = getattr(env, "spec", None)
        name = spec.id if spec is not None else type(env).__name__
        observations, actions = env.observation_space, env.action_space
        if not isinstance(observations, Box) or len(observations.shape) != 1:
            raise UserError(
                f"{name}: observations are {observations}, must be one vector; wrap the "
                "environment in gymnasium.wrappers.FlattenObservation"
            )
        if isinstance(actions, Discrete):
            if actions.start != 0:
                raise UserError(f"{name}: discrete actions start at {actions.start}, must be 0")
            count = int(actions.n)
            low, high = np.zeros(1, np.float32), np.full(1, count - 1, np.float32)
        elif isinstance(actions, Box) and len(actions.shape) == 1:
            count = None
            low, high = actions.low.astype(np.float32), actions.high.astype(np.float32)
        else:
            raise UserError(f"{name}: actions are {actions}, must be one vector or one index")
        return cls(
            environment=name,
            observation_dim=int(observations.shape[0]),
            action_low=low,
            action_high=high,
            max_episode_steps=spec.max_episode_steps if spec is not None else None,
            discrete_actions=count,
        )
