"""Supervised fine-tuning alone: pi_0 from a base model and the demonstrations.

    python recipes/sft.py configs/llm/quickstart.yaml --out sft
    accelerate launch --config_file configs/accelerate/zero2.yaml recipes/sft.py CONFIG --out sft

OUT gets model/ (a plain Hugging Face folder), adapter/ (with LoRA), probe.json, steps.jsonl and
base/, the base model that `model.path` names. Nothing that exists is overwritten.
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
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    from irl_align.llm.config import AlignConfig
    from irl_align.llm.phases.alone import PhaseBench, run_alone

    def work(bench: PhaseBench) -> dict[str, float]:
        base = bench.folder / "base"
        base.mkdir()
        bench.run("prepare", {}, out=base)
        return bench.run("sft", {"base": base})

    config = load_config(AlignConfig, arguments.config, arguments.overrides)
    run_alone(config, arguments.out, work, phase="setup/sft")
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
