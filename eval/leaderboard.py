"""The six tasks of the Open LLM Leaderboard (first version), run by lm-eval.

    python eval/leaderboard.py MODEL
    python eval/leaderboard.py MODEL --tasks arc_challenge,gsm8k --limit 50 \\
        --data arc_challenge.test=arc.jsonl.gz --data gsm8k.test=t.jsonl --data gsm8k.train=u.jsonl

ARC-Challenge (25 shots, acc_norm), HellaSwag (10, acc_norm), MMLU (5, mean acc of 57 subjects),
TruthfulQA (0, mc2), Winogrande (5, acc), GSM8K (5, exact match), and their average. Data come from
the hub, or from local files by --data. A run that was killed goes on with its next task. Needs
lm-eval: pip install 'irl-align[eval]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.errors import exit_with_clear_errors


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="eval/leaderboard.py",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a policy's or model's folder")
    parser.add_argument("--tasks", metavar="NAMES", help="separated by commas (default: all six)")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="TASK.SPLIT=FILE",
        help="local data in the hub's columns (mmlu with a column subject); questions:\n"
        "arc_challenge.test, hellaswag.validation, mmlu.test, truthfulqa_mc2.validation,\n"
        "winogrande.validation, gsm8k.test; worked examples: TASK.train, mmlu.dev;\n"
        "without them a task has 0 shots",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N items of each task")
    parser.add_argument("--backend", choices=("auto", "vllm", "hf"), default="auto")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens of the longest prompt")
    parser.add_argument("--chat-template", action="store_true", help="the leaderboard used none")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--out", type=Path, help="folder of results (default: the run's)")
    arguments = parser.parse_args()

    from irl_align.evaluation.leaderboard import LeaderboardOptions, run_leaderboard

    chosen = vars(arguments) | {"tasks": arguments.tasks and arguments.tasks.split(",")}
    _, text = run_leaderboard(LeaderboardOptions(**chosen))
    print(text)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
