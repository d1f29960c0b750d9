"""Episodes that are cut, not ended, once a robot lies.

A fallen robot in an episode of fixed length lies there until the time limit: most of the steps of
an untrained agent, all alike. Starting anew instead changes where steps are spent and nothing of
the task, so such an episode is truncated (values go on behind it), never terminated.
"""

from __future__ import annotations

from typing import Any

import gymnasium


class CutAfterFall(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncates when the robot was unhealthy (gymnasium's word) for `steps` steps on end."""

    def __init__(self, env: gymnasium.Env[Any, Any], steps: int) -> None:
        super().__init__(env)
        self.steps = steps
        self._robot: Any = env.unwrapped
        self._lain = 0

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        self._lain = 0
        return super().reset(**how)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        seen, reward, terminated, truncated, info = super().step(action)
        self._lain = 0 if self._robot.is_healthy else self._lain + 1
        return seen, reward, terminated, truncated or self._lain >= self.steps, info
