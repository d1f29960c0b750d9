"""The policy phase alone: pi_{t+1} from pi_t, its samples and a reward model.

    python recipes/improve_policy.py CONFIG --policy sft --initial sft --reward reward \\
        --samples samples --out policy
    accelerate launch --config_file configs/accelerate/zero3.yaml recipes/improve_policy.py ...

By `policy.method`: online_dpo (the reward model scores the samples, the best is paired with the
worst), raft (the best is learned), ppo, grpo, rloo and nash_md (they sample answers of their own),
spin, dpo, rpo and spac (no --reward: they have no reward model). --initial
is the KL reference unless `policy.reference=previous`. OUT gets model/, adapter/ (with LoRA),
probe.json, steps.jsonl, and pairs.jsonl or rollouts.jsonl. Nothing that exists is overwritten.
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
    parser.add_argument("--policy", type=Path, required=True, help="pi_t's folder")
    parser.add_argument(
        "--initial", type=Path, required=True, help="pi_0: SFT, or the base under reference=base"
    )
    parser.add_argument(
        "--reward", type=Path, help="output of fit_reward.py, where the method has a reward model"
    )
    parser.add_argument("--samples", type=Path, required=True, help="output of sample.py")
    parser.add_argument("--round", type=int, default=0, help="for seed and record (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    from irl_align.llm.config import AlignConfig
    from irl_align.llm.generation.samples import SAMPLES_NAME
    from irl_align.llm.phases.alone import PhaseBench, input_folder, run_alone

    config = load_config(AlignConfig, arguments.config, arguments.overrides)
    inputs = {
        "policy": input_folder("--policy", arguments.policy),
        "initial": input_folder("--initial", arguments.initial),
    }
    if config.fits_reward:
        if arguments.reward is None:
            raise UserError(
                f"policy.method={config.policy.method} needs --reward, a folder of fit_reward.py"
            )
        inputs["reward"] = input_folder("--reward", arguments.reward, "model")
    inputs["samples"] = input_folder("--samples", arguments.samples, SAMPLES_NAME)

    def work(bench: PhaseBench) -> dict[str, float]:
        return bench.run("policy", inputs)

    run_alone(config, arguments.out, work, phase="policy", round=arguments.round)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
