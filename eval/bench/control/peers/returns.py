"""Returns of a policy without noise, one episode from each start."""

from __future__ import annotations

from typing import Any


def returns(model: Any, environment: str, starts: list[int]) -> list[float]:
    """Undiscounted; `starts` are seeds of resets. `model` has `predict`."""
    import gymnasium

    env = gymnasium.make(environment)
    found = []
    for start in starts:
        observation, _ = env.reset(seed=start)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), bool(terminated or truncated)
        found.append(total)
    env.close()
    return found
