"""Offline ML-IRL (thesis Alg. 3) from demonstrations and a data set, over one or several seeds.

    python recipes/control_offline_ml_irl.py configs/control/offline/ours/hopper.yaml \\
        demonstrations.path=expert.npz dataset.path=medium.npz --seeds 3

Seed s runs in run_dir/seed-s: its world model, with a report of what that is worth, in
setup/world_model, then round after round. returns.png and returns.json in run_dir tell of all. Run
the same command again after a crash: it goes on behind the last committed round.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.loggers import ConsoleLogger

COLUMNS = (
    *("policy/updates", "eval/return", "eval/score", "reward/demo_score", "reward/sample_score"),
    *("model/penalty", "samples/length", "policy/entropy"),
)
# The score of a run, beside its last evaluation: the mean of so many last ones.
LAST = 10


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/control/offline")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from `seed`")
    parser.add_argument("--expert", type=float, help="the expert's return, for the plot")
    arguments = parser.parse_intermixed_args()

    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.control.offline.config import OfflineMLIRLConfig
    from irl_align.control.offline_ml_irl import offline_ml_irl
    from irl_align.evaluation.returns import Curve, report_returns

    config = load_config(OfflineMLIRLConfig, arguments.config, arguments.overrides)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: ask for 1 or more")
    if config.evaluation.every == 0:
        raise UserError("evaluation.every=0 leaves nothing to report; set it to 1 or more")
    curves = []
    for seed in range(config.seed, config.seed + arguments.seeds):
        name = f"seed-{seed}"
        print(f"{config.environment.name}, {name}")
        one = replace(config, seed=seed, run_dir=str(Path(config.run_dir) / name))
        result = offline_ml_irl(one, loggers=[OnlyEvaluations(ConsoleLogger(COLUMNS))])
        setup = Path(one.run_dir) / "setup" / "world_model"
        print((setup / "calibration.txt").read_text(encoding="utf-8"), end="")
        scores = [row["eval/score"] for row in result.history if "eval/score" in row]
        if scores:
            last = scores[-LAST:]
            mean = statistics.mean(last)
            print(f"score {last[-1]:.1f}; mean of the last {len(last)} evaluations {mean:.1f}")
        curves.append(Curve.of(name, result.history, steps="policy/updates"))
    print(
        report_returns(
            Path(config.run_dir),
            config.environment.name,
            curves,
            arguments.expert,
            axis="updates of the policy",
        )
    )
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
