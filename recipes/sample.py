"""Sampling alone: completions of a policy, shared out over the processes of the launch.

    python recipes/sample.py CONFIG --policy runs/x/rounds/0000/policy --out samples
    python recipes/sample.py CONFIG --policy FOLDER --heldout --out heldout
    torchrun --nproc_per_node 4 recipes/sample.py CONFIG --policy FOLDER --out samples

Prompts are those of `demonstrations.path` (with --heldout, of `evaluation.prompts`); how many
completions, how long and how hot is in `sampling`. OUT gets samples.jsonl.gz, which
`fit_reward.py` and `improve_policy.py` take (with --heldout, completions.jsonl).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/llm")
    parser.add_argument(
        "--policy", type=Path, required=True, help="a policy's folder (phase output, or a model)"
    )
    parser.add_argument("--heldout", action="store_true", help="the prompts of evaluation.prompts")
    parser.add_argument("--round", type=int, default=0, help="for the seed (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    from irl_align.llm.config import AlignConfig
    from irl_align.llm.generation.samples import SAMPLES_NAME
    from irl_align.llm.phases.alone import PhaseBench, input_folder, run_alone
    from irl_align.llm.phases.generate import merge_parts
    from irl_align.llm.phases.measure import COMPLETIONS_NAME

    config = load_config(AlignConfig, arguments.config, arguments.overrides)
    policy = input_folder("--policy", arguments.policy)
    if arguments.heldout and config.evaluation.prompts is None:
        raise UserError("--heldout needs evaluation.prompts, a file of prompts")
    name = "generate_heldout" if arguments.heldout else "generate"
    target = COMPLETIONS_NAME if arguments.heldout else SAMPLES_NAME

    def work(bench: PhaseBench) -> dict[str, float]:
        job = bench.job(name, {"policy": policy})
        metrics = bench.launcher.run(job)
        return metrics | merge_parts(job, bench.launcher.place.size, bench.folder / target)

    phase = "evaluate" if arguments.heldout else "sample"
    run_alone(config, arguments.out, work, phase=phase, round=arguments.round)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
