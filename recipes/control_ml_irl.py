"""Online ML-IRL (thesis Alg. 2) from demonstrations, over one or several seeds.

    python recipes/control_ml_irl.py configs/control/pendulum.yaml --seeds 5
    python recipes/control_ml_irl.py configs/control/thesis/hopper.yaml \\
        demonstrations.path=my.npz run_dir=runs/mine

Seed s runs in run_dir/seed-s; returns.png and returns.json in run_dir tell of all. Run the same
command again after a crash: it goes on behind the last committed round.
"""

from __future__ import annotations

from pathlib import Path

from irl_align.cli.seeds import load_seeds_config, run_seeds, seeds_parser
from irl_align.core.errors import exit_with_clear_errors

COLUMNS = (
    *("steps/environment", "eval/return", "reward/demo_score", "reward/sample_score"),
    *("reward/saturation", "policy/entropy"),
)


def main() -> int:
    parser = seeds_parser(__doc__, "configs/control")
    parser.add_argument(
        "--expert", type=Path, help="run of collect_expert.py, for its return at the same starts"
    )
    arguments = parser.parse_intermixed_args()

    from irl_align.control.config import MLIRLConfig
    from irl_align.control.ml_irl import ml_irl
    from irl_align.evaluation.returns import last_return

    config = load_seeds_config(MLIRLConfig, arguments)
    expert = last_return(arguments.expert) if arguments.expert is not None else None
    run_seeds(config, arguments.seeds, ml_irl, COLUMNS, expert=expert)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
