"""Offline ML-IRL (thesis Alg. 3) from demonstrations and a data set, over one or several seeds.

    python recipes/control_offline_ml_irl.py configs/control/offline/ours/hopper.yaml \\
        demonstrations.path=expert.npz dataset.path=medium.npz --seeds 3

Seed s runs in run_dir/seed-s: its world model, with a report of what that is worth, in
setup/world_model, then round after round. returns.png and returns.json in run_dir tell of all. Run
the same command again after a crash: it goes on behind the last committed round.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from irl_align.cli.seeds import History, load_seeds_config, run_seeds, seeds_parser
from irl_align.core.errors import exit_with_clear_errors

COLUMNS = (
    *("policy/updates", "eval/return", "eval/score", "reward/demo_score", "reward/sample_score"),
    *("model/penalty", "samples/length", "policy/entropy"),
)
# The score of a run, beside its last evaluation: the mean of so many last ones.
LAST = 10


def main() -> int:
    arguments = seeds_parser(__doc__, "configs/control/offline").parse_intermixed_args()

    from irl_align.control.methods import method

    of = method("offline_ml_irl")
    run_seeds(load_seeds_config(of.config, arguments), arguments, of, COLUMNS, tell=_tell)
    return 0


def _tell(run: Path, history: History) -> None:
    calibration = run / "setup" / "world_model" / "calibration.txt"
    print(calibration.read_text(encoding="utf-8"), end="")
    scores = [row["eval/score"] for row in history if "eval/score" in row]
    if scores:
        last = scores[-LAST:]
        mean = statistics.mean(last)
        print(f"score {last[-1]:.1f}; mean of the last {len(last)} evaluations {mean:.1f}")


if __name__ == "__main__":
    exit_with_clear_errors(main)
