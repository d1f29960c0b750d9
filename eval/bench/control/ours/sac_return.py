"""SAC on the true reward for so many steps; returns at the end without noise."""

from __future__ import annotations

from eval.bench.control.stopwatch import arguments, report
from irl_align.control.config import EnvironmentConfig, EvaluationConfig, ExpertConfig, SACConfig
from irl_align.control.sac.fixed_reward import train_on_fixed_reward


def main(environment: str, steps: int, episodes: int, seed: int) -> None:
    config = ExpertConfig(
        seed=seed,
        environment_steps=steps,
        environment=EnvironmentConfig(environment),
        sac=SACConfig(hidden=[64, 64], batch_size=100),
        evaluation=EvaluationConfig(every=steps, episodes=episodes),  # once, at the end
    )
    result = train_on_fixed_reward(config, keep=False)
    last = result.history[-1]
    report(mean_return=last["eval/return"], steps=last["steps/environment"])


if __name__ == "__main__":
    main(**arguments())
