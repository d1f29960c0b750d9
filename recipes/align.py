"""All rounds: a reward model and an aligned policy from demonstrations.

    python recipes/align.py configs/llm/quickstart.yaml
    python recipes/align.py configs/llm/quickstart.yaml demonstrations.path=my.jsonl run_dir=runs/my
    accelerate launch --config_file configs/accelerate/zero2.yaml recipes/align.py CONFIG

Run the same command again after a crash: it goes on behind the last finished phase.
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
    parser.add_argument("config", type=Path, help="a YAML of configs/llm")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()

    from irl_align.llm.alignment import align
    from irl_align.llm.config import AlignConfig

    align(load_config(AlignConfig, arguments.config, arguments.overrides))
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
