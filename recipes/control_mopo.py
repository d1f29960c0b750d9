"""Offline learning (MOPO) on a frozen reward, over one or several seeds.

    python recipes/control_mopo.py configs/control/offline/mopo/hopper.yaml \\
        dataset.path=medium-replay.npz reward=runs/offline/ours_hopper --seeds 3
    python recipes/control_mopo.py CONFIG dataset.path=medium.npz reward=true_reward run_dir=runs/y

`reward` is a saved reward, a run with one, or a folder of runs seed-S: what it is worth to a policy
that is found in another data set (reward transfer). `reward=true_reward` is the yardstick: the true
reward, as the data set tells it. Run the same command again after a crash.
"""

from __future__ import annotations

from irl_align.cli.seeds import load_seeds_config, run_seeds, seeds_parser
from irl_align.core.errors import exit_with_clear_errors

COLUMNS = (
    *("policy/updates", "eval/return", "eval/score", "model/penalty", "model/length"),
    *("policy/alpha", "policy/entropy"),
)


def main() -> int:
    arguments = seeds_parser(__doc__, "configs/control/offline/mopo").parse_intermixed_args()

    from irl_align.control.methods import method

    of = method("mopo")
    config = load_seeds_config(of.config, arguments)
    print(f"reward: {config.reward}")
    run_seeds(config, arguments, of, COLUMNS)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
