"""BiCQL-ML (arXiv 2511.22210) from demonstrations and other transitions, over one or several seeds.

    python recipes/control_bicql.py configs/control/bicql/pendulum.yaml --seeds 3
    python recipes/control_bicql.py configs/control/bicql/hopper.yaml \\
        demonstrations.path=expert.npz dataset.path=medium.hdf5 run_dir=runs/mine

No step is taken in the environment but by evaluations, and rewards of the data are never read.
Seed s runs in run_dir/seed-s; returns.png and returns.json in run_dir tell of all. Run the same
command again after a crash: it goes on behind the last committed round. --method runs a yardstick
on the same data instead; its configuration has keys of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.loggers import ConsoleLogger

COLUMNS = (
    *("steps/updates", "eval/return", "eval/demo_log_prob", "policy/alpha", "policy/gap"),
    *("policy/effective_share", "reward/std"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/control/bicql")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from `seed`")
    parser.add_argument("--method", default="bicql", help="bicql, or a yardstick")
    parser.add_argument(
        "--expert", type=Path, help="run of collect_expert.py, for its return at the same starts"
    )
    arguments = parser.parse_intermixed_args()

    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.control.offline_methods import offline_method
    from irl_align.evaluation.returns import Curve, last_return, report_returns

    method = offline_method(arguments.method)
    config = load_config(method.config, arguments.config, arguments.overrides)
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
        result = method.run(one, loggers=[OnlyEvaluations(ConsoleLogger(COLUMNS))])
        curves.append(Curve.of(name, result.history, steps="steps/updates"))
    title = config.environment.name
    print(report_returns(Path(config.run_dir), title, curves, expert, axis="updates"))
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
