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

from irl_align.cli.seeds import load_seeds_config, run_seeds, seeds_parser
from irl_align.core.errors import exit_with_clear_errors

COLUMNS = (
    *("steps/updates", "eval/return", "eval/demo_log_prob", "policy/alpha", "policy/gap"),
    *("policy/effective_share", "reward/std"),
)


def main() -> int:
    parser = seeds_parser(__doc__, "configs/control/bicql")
    parser.add_argument("--method", default="bicql", help="bicql, or a yardstick")
    arguments = parser.parse_intermixed_args()

    from irl_align.control.methods import FROM_FIXED_DATA, method

    of = method(arguments.method, FROM_FIXED_DATA)
    run_seeds(load_seeds_config(of.config, arguments), arguments, of, COLUMNS)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
