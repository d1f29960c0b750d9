"""Tabular ML-IRL (thesis Alg. 1) from demonstrations of a hidden reward, and how near it comes.

    python recipes/tabular_ml_irl.py configs/tabular/gridworld.yaml
    python recipes/tabular_ml_irl.py configs/tabular/garnet.yaml reward.family=neural \\
        optimiser=adam run_dir=runs/mine

Run the same command again after a crash: it goes on behind the last committed round. The table
also goes to results.json in run_dir.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import exit_with_clear_errors


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/tabular")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    from irl_align.tabular.config import TabularConfig
    from irl_align.tabular.experiment import learn, report

    config = load_config(TabularConfig, arguments.config, arguments.overrides)
    print(report(learn(config)))
    print(f"numbers: {Path(config.run_dir) / 'results.json'}")
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
