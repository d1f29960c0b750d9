"""Online ML-IRL (thesis Alg. 2) from demonstrations, over one or several seeds.

    python recipes/control_ml_irl.py configs/control/pendulum.yaml --seeds 5
    python recipes/control_ml_irl.py configs/control/thesis/hopper.yaml \\
        demonstrations.path=my.npz run_dir=runs/mine

Seed s runs in run_dir/seed-s; returns.png and returns.json in run_dir tell of all. Run the same
command again after a crash: it goes on behind the last committed round.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.loggers import ConsoleLogger

COLUMNS = (
    *("steps/environment", "eval/return", "reward/demo_score", "reward/sample_score"),
    *("reward/saturation", "policy/entropy"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/control")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from `seed`")
    parser.add_argument(
        "--expert", type=Path, help="run of collect_expert.py, for its return at the same starts"
    )
    arguments = parser.parse_intermixed_args()

    from irl_align.control.config import MLIRLConfig
    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.control.ml_irl import ml_irl
    from irl_align.evaluation.returns import Curve, last_return, report_returns

    config = load_config(MLIRLConfig, arguments.config, arguments.overrides)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: ask for 1 or more")
    if config.evaluation.every == 0:
        raise UserError("evaluation.every=0 leaves nothing to report; set it to 1 or more")
    expert = last_return(arguments.expert) if arguments.expert is not None else None
    curves = []
    for seed in range(config.seed, config.seed + arguments.seeds):
        name = f"seed-{seed}"
        print(f"{config.environment.name}, {name}")
        one = replace(config, seed=seed, run_dir=str(Path(config.run_dir) / name))
        result = ml_irl(one, loggers=[OnlyEvaluations(ConsoleLogger(COLUMNS))])
        curves.append(Curve.of(name, result.history))
    print(report_returns(Path(config.run_dir), config.environment.name, curves, expert))
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
