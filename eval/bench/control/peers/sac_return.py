"""SAC of Stable-Baselines3 for so many steps; returns at the end without noise."""

from __future__ import annotations

from eval.bench.control.peers.returns import returns
from eval.bench.control.peers.sac import agent
from eval.bench.control.stopwatch import arguments, report


def main(environment: str, steps: int, random_steps: int, starts: list[int], seed: int) -> None:
    model = agent(
        "stable_baselines3", environment, 64, 100, 4, random_steps=random_steps, seed=seed
    )
    model.learn(steps)
    found = returns(model, environment, starts)
    report(mean_return=sum(found) / len(found), steps=steps)


if __name__ == "__main__":
    main(**arguments())
