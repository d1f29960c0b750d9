"""What answers are worth under a gold reward, and whether a reward model agrees with it.

    python eval/gold_reward.py RUN/rounds/0001/evaluation --gold vader \\
        --policy RUN/rounds/0001/policy
    python eval/gold_reward.py RUN/rounds/0001/evaluation --gold vader --baseline RUN/setup/sft \\
        --reward RUN/rounds/0001/reward

ANSWERS is a folder with completions.jsonl or samples.jsonl.gz (a phase of a run), or such a file.
The gold reward is `vader`, or `module:function` of (prompt text, response). Printed and stored: its
mean over prompts; gain and win rate over the baseline's answers to the same prompts; how often the
reward model orders finished answers to one prompt as the gold reward does. 95% bootstrap intervals
over prompts. The result goes to RUN/evaluations of the model named, else to ./evaluations or --out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError, exit_with_clear_errors


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gold_reward.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("answers", type=Path, metavar="ANSWERS")
    parser.add_argument("--gold", required=True, help="vader, or module:function")
    parser.add_argument("--policy", metavar="MODEL", help="who gave the answers, for the record")
    parser.add_argument("--baseline", type=Path, metavar="ANSWERS", help="to pair with, by prompt")
    parser.add_argument("--reward", metavar="MODEL", help="a reward model to compare with the gold")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", help="cpu, cuda, cuda:1")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for the result")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    if options.policy is None and options.reward is None:
        raise UserError("name --policy (who gave the answers), --reward, or both, for the record")

    from irl_align.evaluation.gold_trial import find_answers, gold_metrics
    from irl_align.evaluation.hidden_reward import load_hidden_reward
    from irl_align.evaluation.rewards.scorers import ScorerSettings, find_model, prepare_scorer
    from irl_align.evaluation.store import (
        Evaluation,
        ModelRecord,
        evaluation_folder,
        identify_model,
        save_evaluation,
    )

    gold = load_hidden_reward(options.gold)
    answers, data = find_answers(options.answers)
    settings: dict[str, Any] = {"gold": options.gold}
    baseline = scorer = None
    if options.baseline is not None:
        baseline, record = find_answers(options.baseline, "--baseline")
        settings["baseline_sha256"] = record.sha256
    folders: list[Path] = []
    records: dict[str, ModelRecord] = {}
    with contextlib.redirect_stdout(sys.stderr):
        if options.policy is not None:
            folders.append(find_model(options.policy, flag="--policy"))
            records["policy"] = identify_model(folders[0], shown=options.policy)
        if options.reward is not None:
            subject = prepare_scorer(
                ScorerSettings(
                    options.reward, "reward", device=options.device, batch_size=options.batch_size
                )
            )
            folders.append(find_model(options.reward, flag="--reward"))
            records["reward"] = subject.model
            settings |= subject.settings
        out = evaluation_folder(folders[0], options.out)
        if options.reward is not None:
            from irl_align.llm.reward.scorer import RewardScorer

            scorer = RewardScorer.load(folders[-1], device=options.device)
        metrics, headline = gold_metrics(
            answers,
            gold,
            baseline=baseline,
            scorer=scorer,
            batch_size=options.batch_size,
            seed=options.seed,
        )
    first, *more = records
    evaluation = Evaluation(
        kind="gold_reward",
        model=records[first],
        others={name: records[name] for name in more},
        data=data,
        settings=settings,
        seed=options.seed,
        metrics=metrics,
        headline=headline,
    )
    path = save_evaluation(out, evaluation)
    if options.json:
        print(json.dumps(evaluation.as_dict(), indent=2, ensure_ascii=False))
        return 0
    for name, value in metrics.items():
        print(f"{name:<16} {'-' if value is None else value}")
    print(f"result: {path}")
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
