"""What a frozen reward is worth to an agent that was not there (thesis, Table 2.2).

    random policy      the lower end of the scale
    reward transfer    a fresh SAC agent on the frozen reward
    data transfer      ML-IRL in the environment itself, from demonstrations made elsewhere
    true reward        a fresh SAC agent on the true reward, with as many steps: the upper end

Every number is the true return of the last policy of a run, from the same starts. The true reward
trains the last row and nothing else, and chooses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from irl_align.control.config import ExpertConfig
from irl_align.control.environments.making import make
from irl_align.control.policies import RandomPolicy
from irl_align.control.rollouts import Collector
from irl_align.control.sac.fixed_reward import train_on_fixed_reward
from irl_align.control.spaces import Spaces
from irl_align.control.transfer import FrozenReward, frozen_reward, reward_file
from irl_align.core.config import to_dict
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.core.loggers import Logger
from irl_align.core.run import RunDirectory
from irl_align.evaluation.bootstrap import Interval, bootstrap_mean
from irl_align.evaluation.returns import Curve

RANDOM, REWARD, DATA, TRUE = "random policy", "reward transfer", "data transfer", "true reward"


@dataclass(frozen=True)
class Row:
    """One line of the table: a way to get a policy, over seeds."""

    name: str
    curves: list[Curve]

    @property
    def returns(self) -> list[float]:
        """[seeds]: the last true return of each, a mean over its evaluation episodes."""
        return [curve.returns[-1] for curve in self.curves]

    @property
    def interval(self) -> Interval:
        """Mean and 95% bootstrap interval over seeds (one seed: no width)."""
        return bootstrap_mean(self.returns)


def fitting_rewards(path: Path, config: ExpertConfig, seeds: Sequence[int]) -> list[FrozenReward]:
    """The reward for each seed, checked against the environment. UserError before anything runs."""
    spaces = _spaces(config)
    return [frozen_reward(reward_file(path, seed), spaces) for seed in seeds]


def random_policy(config: ExpertConfig, seeds: Sequence[int]) -> Row:
    """Uniform actions from the starts that every evaluation has."""
    env = make(config.environment.name, **config.environment.options())
    curves = []
    try:
        collector = Collector(env)
        for seed in seeds:
            start, before = time.perf_counter(), collector.steps
            policy = RandomPolicy(collector.spaces, seed)
            evaluation = config.evaluation
            done = collector.collect(policy, evaluation.episodes, seed=evaluation.seed)
            returned = float(np.mean(done.true_rewards.returns()))
            seconds = time.perf_counter() - start
            curves.append(Curve(f"seed-{seed}", [0], [returned], collector.steps - before, seconds))
    finally:
        env.close()
    return Row(RANDOM, curves)


def fresh_agents(
    config: ExpertConfig,
    seeds: Sequence[int],
    rewards: Sequence[FrozenReward] | None,
    folder: Path,
    *,
    loggers: Sequence[Logger] = (),
) -> Row:
    """A SAC agent for each seed that starts from nothing, in the run `folder`/seed-SEED.

    Args:
        config: environment, agent, steps, evaluation; run_dir, seed and reward are set here.
        rewards: one a seed, frozen; None: the true reward.

    Runs that are there already are taken up, or read when they are done.
    """
    curves = []
    for number, seed in enumerate(seeds):
        frozen = rewards[number] if rewards is not None else None
        one = replace(
            config,
            seed=seed,
            run_dir=str(folder / f"seed-{seed}"),
            reward=str(frozen.path) if frozen is not None else None,
            demonstrations=None,
        )
        function = frozen.function if frozen is not None else None
        result = train_on_fixed_reward(one, reward=function, loggers=loggers)
        curves.append(Curve.of(f"seed-{seed}", result.history))
    return Row(TRUE if rewards is None else REWARD, curves)


def data_transfer(folder: Path, config: ExpertConfig, seeds: Sequence[int]) -> Row:
    """Runs of ML-IRL in the same environment: `folder`/seed-SEED, or the one run `folder`.

    Raises UserError when a run is missing, is of another environment, or was evaluated otherwise.
    """
    curves = []
    single = (folder / "config.yaml").is_file()
    for seed in seeds[:1] if single else seeds:
        path = folder if single else folder / f"seed-{seed}"
        run = RunDirectory.read(path)
        _same_measure(path, run.config(), config)
        curves.append(Curve.of(path.name, run.history()))
    return Row(DATA, curves)


def _same_measure(path: Path, found: Mapping[str, Any], config: ExpertConfig) -> None:
    wanted = to_dict(config)
    for section, keys in (
        ("environment", ("name", "max_episode_steps", "fixed_horizon")),
        ("evaluation", ("episodes", "deterministic", "seed")),
    ):
        for key in keys:
            there, here = found.get(section, {}).get(key), wanted[section][key]
            if there != here:
                raise UserError(
                    f"{path}: {section}.{key} is {there!r} there and {here!r} here; returns that "
                    "were measured differently do not belong in one table"
                )


def _spaces(config: ExpertConfig) -> Spaces:
    env = make(config.environment.name, **config.environment.options())
    try:
        return Spaces.of(env)
    finally:
        env.close()


def report_transfer(
    path: Path, config: ExpertConfig, rows: Sequence[Row], rewards: Sequence[FrozenReward]
) -> str:
    """Write all numbers to `path` (JSON, atomically); returns the table as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(
        path,
        {
            "environment": config.environment.name,
            "evaluation": asdict(config.evaluation),
            "rewards": [
                {k: v for k, v in vars(frozen).items() if k != "function"} for frozen in rewards
            ],
            "rows": {
                row.name: {
                    **row.interval.as_dict(),
                    "returns": row.returns,
                    "runs": [asdict(curve) for curve in row.curves],
                }
                for row in rows
            },
        },
    )
    head = f"{'':<17}{'return':>9}{'95% over seeds':>20}{'steps':>10}{'eval steps':>12}  each seed"
    lines = [head]
    for row in rows:
        mean, low, high = row.interval.mean, row.interval.low, row.interval.high
        steps = max(curve.steps[-1] for curve in row.curves)
        evaluation = max(curve.evaluation_steps for curve in row.curves)
        each = ", ".join(f"{value:.1f}" for value in row.returns)
        lines.append(
            f"{row.name:<17}{mean:>9.1f}{f'[{low:.1f}, {high:.1f}]':>20}{steps:>10}"
            f"{evaluation:>12}  {each}"
        )
    lines.append(f"numbers: {path}")
    return "\n".join(lines)
