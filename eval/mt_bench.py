"""MT-Bench: two-turn questions in eight categories, graded from 1 to 10 by a judge.

    python eval/mt_bench.py runs/x/rounds/0001/policy --judge http://localhost:8000/v1
    python eval/mt_bench.py MODEL --judge URL --judge-model NAME \\
        --questions HuggingFaceH4/mt_bench_prompts --max-new-tokens 1024
    python eval/mt_bench.py http://localhost:8001/v1 --model-name NAME --judge URL

MODEL is a policy's or model's folder, or the URL of an OpenAI-compatible server. The judge is any
such server; its key is read from the environment (see --judge-key-env). A run that was killed goes
on where it stopped: answers and judgements are kept beside the result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.errors import exit_with_clear_errors
from irl_align.evaluation.options import (
    add_judge_arguments,
    add_player_arguments,
    player_options,
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="eval/mt_bench.py",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a folder or a URL")
    add_judge_arguments(parser, required=True)
    questions = parser.add_argument_group("questions")
    questions.add_argument(
        "--questions",
        default="small",
        metavar="WHICH",
        help="small (16 of our own, default), a file of rows with question_id, category, turns\n"
        "and reference, or a hub name such as HuggingFaceH4/mt_bench_prompts",
    )
    questions.add_argument("--references", metavar="FILE", help="reference answers by question_id")
    questions.add_argument(
        "--without-reference",
        action="store_true",
        help="judge mathematics, reasoning and code without reference answers where there are none",
    )
    questions.add_argument("--limit", type=int, metavar="N", help="the first N questions only")
    add_player_arguments(parser, max_new_tokens=1024)
    parser.add_argument("--seed", type=int, default=0, help="of the answers and the bootstrap")
    parser.add_argument("--out", type=Path, help="folder of results (default: the run's)")
    arguments = parser.parse_args()

    from irl_align.evaluation.mt_bench import MtBenchOptions, run_mt_bench

    names = ("model", "judge", "judge_model", "judge_key_env", "judge_max_tokens", "judge_timeout")
    names += ("workers", "questions", "references", "without_reference", "limit", "seed", "out")
    chosen = {name: getattr(arguments, name) for name in names}
    _, text = run_mt_bench(MtBenchOptions(**chosen, player=player_options(arguments)))
    print(text)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
