"""The reward phase alone: r_{t+1} from demonstrations, samples of pi_t and human pairs, if any.

    python recipes/fit_reward.py CONFIG --samples samples --body sft --out reward
    python recipes/fit_reward.py CONFIG --samples new old --reward runs/x/rounds/0000/reward \\
        --body runs/x/setup/sft --round 1 --out reward
    accelerate launch --config_file configs/accelerate/zero3.yaml recipes/fit_reward.py ...

OUT gets model/, which `AutoModelForSequenceClassification` and `irl-align score` load, and
steps.jsonl. Nothing that exists is overwritten.
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
    parser.add_argument(
        "--samples", type=Path, nargs="+", required=True, metavar="FOLDER",
        help="outputs of sample.py, the newest first",
    )  # fmt: skip
    parser.add_argument(
        "--body", type=Path, required=True, help="the policy whose body a first reward model takes"
    )
    parser.add_argument(
        "--reward", type=Path, nargs="+", default=[], metavar="FOLDER",
        help="the rewards that those policies answered to, r_t first; missing: r_0 = 0",
    )  # fmt: skip
    parser.add_argument("--round", type=int, default=0, help="for seed and record (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    from irl_align.llm.config import AlignConfig
    from irl_align.llm.generation.samples import SAMPLES_NAME
    from irl_align.llm.phases.alone import PhaseBench, input_folder, run_alone

    config = load_config(AlignConfig, arguments.config, arguments.overrides)
    newest, *earlier = (input_folder("--samples", s, SAMPLES_NAME) for s in arguments.samples)
    inputs = {"samples": newest, "body": input_folder("--body", arguments.body)}
    rewards = [
        input_folder("--reward", f / "model" if (f / "model").is_dir() else f, "config.json")
        for f in arguments.reward
    ]
    if rewards:
        inputs["reward"] = rewards[0]

    def work(bench: PhaseBench) -> dict[str, float]:
        return bench.run(
            "reward",
            inputs,
            earlier_samples=[str(e.resolve()) for e in earlier],
            earlier_rewards=[str(r.resolve()) for r in rewards[1:]],
        )

    run_alone(config, arguments.out, work, phase="reward", round=arguments.round)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
