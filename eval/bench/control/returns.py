"""Whether our SAC learns as well as Stable-Baselines3's: returns on the true reward.

    python -m eval.bench sac_returns                            the default, hours
    python -m eval.bench sac_returns --environments Pendulum --seeds 3

The same hyper-parameters, schedule, number of environment steps and starts of the last evaluation,
which is of 20 episodes without noise. Ours ends with the episode in which the steps run out. The
table has means over seeds with 95% intervals (Student's t), and the interval of the difference
(Welch's t). Runs go side by side, one on each core: nothing here is timed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.bench.control.turns import ours, peer
from irl_align.core.errors import UserError

_EPISODES = 20


@dataclass(frozen=True)
class Task:
    """An environment, its budget, and how long actions are uniform at first."""

    environment: str
    steps: int
    random_steps: int  # about what our one episode of uniform actions takes


TASKS = {
    "Pendulum": Task("Pendulum-v1", 10_000, 200),
    "HalfCheetah": Task("HalfCheetah-v5", 100_000, 1_000),
    "Hopper": Task("Hopper-v5", 100_000, 100),
}
SEEDS = 5


def run(
    environments: Sequence[str] | None = None,
    seeds: int | None = None,
    steps: int | None = None,
) -> dict[str, Any]:
    """Rows `sac_returns/ENVIRONMENT`. Raises UserError on an unknown environment or one seed."""
    names = list(environments or TASKS)
    unknown = sorted(set(names) - set(TASKS))
    if unknown:
        raise UserError(f"sac_returns: unknown environment {unknown[0]}; known: {', '.join(TASKS)}")
    count = SEEDS if seeds is None else seeds
    if count < 2:
        raise UserError(f"sac_returns: --seeds {count}; an interval needs 2 or more")
    return {f"sac_returns/{name}": _row(name, TASKS[name], count, steps) for name in names}


def _row(name: str, task: Task, seeds: int, steps: int | None) -> dict[str, Any]:
    from irl_align.control.config import EvaluationConfig
    from irl_align.control.rollouts import episode_seed

    work: dict[str, Any] = {"environment": task.environment, "steps": steps or task.steps}
    first = EvaluationConfig().seed
    starts = [episode_seed(first, number) for number in range(_EPISODES)]

    def mine(seed: int) -> float:
        return ours("sac_return", False, **work, episodes=_EPISODES, seed=seed)["mean_return"]

    def other(seed: int) -> float:
        work_of_peer = {**work, "random_steps": task.random_steps, "starts": starts}
        return peer("sac_return", False, **work_of_peer, seed=seed)["mean_return"]

    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        waiting = {
            "peer": [side_by_side.submit(other, seed) for seed in range(seeds)],
            "ours": [side_by_side.submit(mine, seed) for seed in range(seeds)],
        }
        runs = {who: [one.result() for one in many] for who, many in waiting.items()}
    found = compared(runs["ours"], runs["peer"])
    print(
        f"sac_returns, {name}, {work['steps']} steps, {seeds} seeds: ours {found['ours']:.1f} "
        f"{_between(found['ours_interval'])}, Stable-Baselines3 {found['peer']:.1f} "
        f"{_between(found['peer_interval'])}, difference {_between(found['difference_interval'])}"
    )
    return {**found, "unit": f"mean return after {work['steps']} steps", "runs": runs}


def compared(mine: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Means of both and 95% intervals: of each, and of the difference ours - peer."""
    from scipy import stats

    def interval(values: Sequence[float]) -> list[float]:
        return _ends(stats.ttest_1samp(values, 0.0).confidence_interval(0.95))

    difference = stats.ttest_ind(mine, other, equal_var=False).confidence_interval(0.95)
    return {
        "ours": float(np.mean(mine)),
        "peer": float(np.mean(other)),
        "ours_interval": interval(mine),
        "peer_interval": interval(other),
        "difference_interval": _ends(difference),
    }


def _ends(interval: Any) -> list[float]:
    return [float(interval.low), float(interval.high)]


def _between(ends: list[float]) -> str:
    return f"[{ends[0]:.1f}, {ends[1]:.1f}]"
