"""RewardBench for a reward model, a DPO policy or a plain language model; other pairs as well.

    python eval/rewardbench.py MODEL                               # a reward model, hub data
    python eval/rewardbench.py MODEL --data pairs.jsonl.gz         # local data, no network
    python eval/rewardbench.py POLICY --reference SFT --beta 0.1   # implicit reward: DPO, SPIN
    python eval/rewardbench.py SFT --scorer likelihood             # log-likelihood of responses
    python eval/rewardbench.py --judge http://localhost:8000/v1    # a judge that is shown both

MODEL is a folder (a run's, too: RUN/rounds/0001/reward) or a hub name. Data are rows of prompt,
chosen, rejected and subset: JSONL, JSON, CSV (also .gz), Parquet, a saved dataset, or a hub name,
by default allenai/reward-bench (split filtered); `org/name@COMMIT` pins a revision. Only hub names
ask the network. RewardBench 2's
best-of-4 rows work as well (an item is right only when chosen is strictly best), and so do files
without RewardBench's subsets, which get accuracies by subset instead of sections.

Printed: accuracy by subset, the sections, their plain mean (`average`, as the thesis prints it)
and the leaderboard's mean (`leaderboard_average`, Prior Sets at weight .5 where the data hold
them), with 95% bootstrap intervals over prompts. Result and per-item scores go to RUN/evaluations
for a run's model, else to ./evaluations, or to --out; the same command after a kill goes on behind
the last chunk. Numbers do not depend on batch size or padding side beyond rounding in float32.

A judge sees chosen and rejected as A and B in an order drawn by --seed (or both orders), a tie is
half a point, and an answer without a verdict is counted and left out.

How language models score is a choice: the response's tokens and its end token are summed, nothing
is divided by the length.
"""

from __future__ import annotations

import argparse
import json

from irl_align.cli.scoring import add_options, render, trial_of, trial_of_judge
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.evaluation.options import add_judge_arguments

DATASET, SPLIT = "allenai/reward-bench", "filtered"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rewardbench.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="left out with --judge")
    parser.add_argument("--data", default=DATASET, metavar="FILE", help=f"default: {DATASET}")
    add_options(parser)
    add_judge_arguments(parser, required=False)
    parser.add_argument(
        "--both-orders", action="store_true", help="ask a judge twice, with the places exchanged"
    )
    options = parser.parse_args()
    if (options.model is None) == (options.judge is None):
        raise UserError("give either MODEL or --judge URL: one of them is put to the test")
    if options.data == DATASET and options.split is None:
        options.split = SPLIT
    if options.judge is not None:
        trial = trial_of_judge(options, options.data)
    else:
        trial = trial_of(options, options.data, always_store=True)
    if options.json:
        print(json.dumps(trial.evaluation.as_dict(), indent=2, ensure_ascii=False))
    else:
        print(render(trial))
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
