"""Offline learning (MOPO) on a frozen reward, over one or several seeds.

    python recipes/control_mopo.py configs/control/offline/mopo/hopper.yaml \\
        dataset.path=medium-replay.npz reward=runs/offline/ours_hopper --seeds 3
    python recipes/control_mopo.py CONFIG dataset.path=medium.npz reward=true_reward run_dir=runs/y

`reward` is a saved reward, a run with one, or a folder of runs seed-S: what it is worth to a policy
that is found in another data set (reward transfer). `reward=true_reward` is the yardstick: the true
reward, as the data set tells it. Run the same command again after a crash.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.loggers import ConsoleLogger

COLUMNS = (
    *("policy/updates", "eval/return", "eval/score", "model/penalty", "model/length"),
    *("policy/alpha", "policy/entropy"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/control/offline")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from `seed`")
    arguments = parser.parse_intermixed_args()

    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.control.mopo import mopo
    from irl_align.control.offline.config import MOPOConfig
    from irl_align.evaluation.returns import Curve, report_returns

    config = load_config(MOPOConfig, arguments.config, arguments.overrides)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: ask for 1 or more")
    if config.evaluation.every == 0:
        raise UserError("evaluation.every=0 leaves nothing to report; set it to 1 or more")
    curves = []
    for seed in range(config.seed, config.seed + arguments.seeds):
        name = f"seed-{seed}"
        print(f"{config.environment.name}, {name}, reward: {config.reward}")
        one = replace(config, seed=seed, run_dir=str(Path(config.run_dir) / name))
        result = mopo(one, loggers=[OnlyEvaluations(ConsoleLogger(COLUMNS))])
        curves.append(Curve.of(name, result.history, steps="policy/updates"))
    title, axis = config.environment.name, "updates of the policy"
    print(report_returns(Path(config.run_dir), title, curves, axis=axis))
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
