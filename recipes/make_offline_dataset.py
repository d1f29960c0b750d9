"""Data sets for offline learning, by D4RL's recipe, from a run of SAC on the true reward.

    python recipes/make_offline_dataset.py configs/control/offline/hopper_expert.yaml --out data
    python recipes/make_offline_dataset.py CONFIG --out data/mine --steps 100000 --kinds medium

Trains (or takes up) the run of CONFIG, picks the first policy that is a third of the way from
random to the last one, and writes medium.npz, medium-replay.npz and medium-expert.npz. Each holds
the true rewards of its steps, which offline inverse learners never see, and what it was made of.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.loggers import ConsoleLogger

COLUMNS = ("steps/environment", "eval/return", "eval/return_std", "policy/entropy")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML as of recipes/collect_expert.py")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of medium (1,000,000)")
    parser.add_argument("--share", type=float, default=1 / 3, help="that makes a policy medium")
    parser.add_argument("--episodes", type=int, default=10, help="that a policy is judged by")
    parser.add_argument("--kinds", help="with commas between; all of them")
    arguments = parser.parse_intermixed_args()

    from irl_align.control.config import ExpertConfig
    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.control.offline.recording import KINDS, make_datasets, most_steps
    from irl_align.control.sac.fixed_reward import train_on_fixed_reward

    config = load_config(ExpertConfig, arguments.config, arguments.overrides)
    kinds = tuple(arguments.kinds.split(",")) if arguments.kinds else KINDS
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--kinds {kind}: known are {', '.join(KINDS)}")
    if config.reward is not None or config.environment.absorbing:
        raise UserError("the run must be on the true reward and without absorbing states")
    if arguments.steps < 1 or arguments.episodes < 1 or not 0 < arguments.share < 1:
        raise UserError("--steps and --episodes must be 1 or more, --share between 0 and 1")
    if "medium-replay" in kinds and config.sac.capacity < (most := most_steps(config)):
        raise UserError(
            f"sac.capacity={config.sac.capacity} may forget some of the run's steps, which "
            f"medium-replay needs; set it to {most} or more"
        )
    train_on_fixed_reward(config, loggers=[OnlyEvaluations(ConsoleLogger(COLUMNS))])
    for path, found in make_datasets(
        config,
        arguments.out,
        steps=arguments.steps,
        share=arguments.share,
        episodes=arguments.episodes,
        kinds=kinds,
    ):
        returns = sum(float(paid.sum()) for paid in found.rewards) / len(found.rewards)
        print(
            f"{path}: {found.steps} steps, {len(found.trajectories)} episodes, true return "
            f"{returns:.1f} (mean)"
        )
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
