"""`irl-align score MODEL FILE`: how often a model agrees with preference pairs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from irl_align.cli.scoring import add_options, check_parent, render, trial_of


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "score",
        help="accuracy of a reward model on a preference file",
        description="Scores the responses of every item by the model's own chat template. An item "
        "counts as correct only when chosen > every rejected; ties are reported apart. Intervals: "
        "95%% bootstrap over prompts. Subsets are reported apart, those of RewardBench by section "
        "too. The result of a run's model is kept in RUN/evaluations, that of any model in --out; "
        "there the same command after a crash goes on where it stopped.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a reward model's folder; a language model with --scorer"
    )
    parser.add_argument("file", metavar="FILE", help="preference pairs (see check-data)")
    parser.add_argument("--per-item", metavar="OUT", help="write scores of each item as JSONL")
    add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    out = Path(options.per_item) if options.per_item else None
    if out is not None:
        check_parent("--per-item", out)
    trial = trial_of(options, options.file, always_store=False)
    if out is not None:
        from irl_align.core.files import atomic_write_text

        rows = (json.dumps(grade.as_row(), ensure_ascii=False) for grade in trial.grades)
        atomic_write_text(out, "".join(row + "\n" for row in rows))
    if options.json:
        print(json.dumps(trial.evaluation.as_dict(), indent=2, ensure_ascii=False))
        return 0
    print(render(trial))
    if out is not None:
        print(f"per item: {out}")
    return 0
