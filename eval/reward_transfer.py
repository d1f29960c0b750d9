"""What a saved reward is worth in an environment: fresh SAC on it, scored by the true reward.

    python eval/reward_transfer.py --reward runs/x/rounds/0068/reward/reward.pt --environment NAME
    python eval/reward_transfer.py --config configs/control/ants/disabled_expert.yaml \\
        --reward runs/ants/custom --data-transfer runs/ants/disabled --seeds 3      # Table 2.2

--reward takes a saved reward, a run (its last committed round counts), or a folder of runs seed-0,
seed-1, ... as recipes/control_ml_irl.py makes them: each seed then takes the reward of its own.
Run the same command again after a crash: it goes on behind the last committed round. The table also
goes to transfer.json in run_dir.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.loggers import ConsoleLogger

COLUMNS = ("steps/environment", "eval/return", "eval/return_std", "policy/alpha", "policy/entropy")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reward", type=Path, required=True, help="a file, a run, or its folder")
    parser.add_argument("--config", type=Path, help="the fresh agents, as for collect_expert.py")
    parser.add_argument("--environment", help="the same as environment.name=...")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from `seed`")
    parser.add_argument("--data-transfer", type=Path, help="runs of ML-IRL in this environment")
    parser.add_argument(
        "--true-reward",
        type=Path,
        help="where the runs on the true reward lie, or shall (run_dir/true_reward)",
    )
    parser.add_argument("--without-true-reward", action="store_true", help="leave that row out")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    from irl_align.control.config import ExpertConfig
    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.evaluation.reward_transfer import (
        data_transfer,
        fitting_rewards,
        fresh_agents,
        random_policy,
        report_transfer,
    )

    overrides = list(arguments.overrides)
    if arguments.environment is not None:
        overrides.append(f"environment.name={arguments.environment}")
    elif arguments.config is None:
        raise UserError("say in which environment: --environment NAME, or --config FILE")
    if arguments.config is None:
        overrides.insert(0, "run_dir=runs/reward_transfer")
    config = load_config(ExpertConfig, arguments.config, overrides)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: ask for 1 or more")
    if config.evaluation.every == 0:
        raise UserError("evaluation.every=0 leaves nothing to report; set it to 1 or more")
    if config.reward is not None:
        raise UserError(f"reward={config.reward}: here it is given as --reward")
    seeds = range(config.seed, config.seed + arguments.seeds)
    folder = Path(config.run_dir)
    rewards = fitting_rewards(arguments.reward, config, seeds)
    transferred = []
    if arguments.data_transfer is not None:
        transferred = [data_transfer(arguments.data_transfer, config, seeds)]
    for frozen in rewards:
        print(frozen.render())

    loggers = [OnlyEvaluations(ConsoleLogger(COLUMNS))]
    rows = [random_policy(config, seeds)]
    rows.append(fresh_agents(config, seeds, rewards, folder / "reward", loggers=loggers))
    rows += transferred
    if not arguments.without_true_reward:
        where = arguments.true_reward or folder / "true_reward"
        rows.append(fresh_agents(config, seeds, None, where, loggers=loggers))
    print(f"\n{config.environment.name}, {config.evaluation.episodes} episodes a seed")
    print(report_transfer(folder / "transfer.json", config, rows, rewards))
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
