"""Online ML-IRL (thesis Alg. 2) from demonstrations, over one or several seeds.

    python recipes/control_ml_irl.py configs/control/pendulum.yaml --seeds 5
    python recipes/control_ml_irl.py configs/control/thesis/hopper.yaml \\
        demonstrations.path=my.npz run_dir=runs/mine

Seed s runs in run_dir/seed-s; returns.png and returns.json in run_dir tell of all. Run the same
command again after a crash: it goes on behind the last committed round.
"""

from __future__ import annotations

from irl_align.cli.seeds import load_seeds_config, run_seeds, seeds_parser
from irl_align.core.errors import exit_with_clear_errors

COLUMNS = (
    *("steps/environment", "eval/return", "reward/demo_score", "reward/sample_score"),
    *("reward/saturation", "policy/entropy"),
)


def main() -> int:
    arguments = seeds_parser(__doc__, "configs/control").parse_intermixed_args()

    from irl_align.control.methods import method

    of = method("ml_irl")
    run_seeds(load_seeds_config(of.config, arguments), arguments, of, COLUMNS)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
