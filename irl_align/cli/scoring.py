"""Options and output that `irl-align score` and `eval/rewardbench.py` share."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from irl_align.core.errors import UserError

if TYPE_CHECKING:
    from irl_align.evaluation.rewards.scorers import Subject
    from irl_align.evaluation.rewards.trial import Trial

__all__ = ["add_options", "check_parent", "render", "trial_of", "trial_of_judge"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Everything about scoring, data and results but MODEL and the data's name."""
    parser.add_argument(
        "--scorer",
        choices=("auto", "reward", "likelihood", "implicit"),
        default="auto",
        help="reward: a reward model; likelihood: log-likelihood of the response under a language "
        "model; implicit: beta * log(pi / reference); auto: implicit with --reference, else reward",
    )
    parser.add_argument("--reference", metavar="MODEL", help="pi_ref of the implicit reward")
    parser.add_argument("--beta", type=float, default=0.1, help="of the implicit reward")
    parser.add_argument("--revision", help="commit of a MODEL on the hub")
    parser.add_argument("--reference-revision", help="commit of a --reference on the hub")
    parser.add_argument(
        "--chat-template", metavar="FILE", help="Jinja file for a language model without template"
    )
    parser.add_argument(
        "--reference-chat-template", metavar="FILE", help="as above (default: --chat-template)"
    )
    parser.add_argument("--split", help="split of a saved dataset or hub dataset")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="N items: each subset keeps its share, the first of each are taken",
    )
    parser.add_argument("--on-bad-rows", choices=("error", "drop"), default="error")
    parser.add_argument("--batch-size", type=int, default=16, help="responses per forward pass")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="keep the end of longer")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda if there is one)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of weights"
    )
    parser.add_argument("--bf16", action="store_true", help="bfloat16 matmuls (faster, less exact)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the result and the per-item scores"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def trial_of(options: argparse.Namespace, source: str, *, always_store: bool) -> Trial:
    """Read the data, prepare the scorer, grade and store.

    Results go to --out, else into the run that MODEL belongs to; elsewhere to ./evaluations when
    `always_store`, else nowhere. Everything that can be wrong is told before weights are loaded.
    """
    from irl_align.evaluation.rewards.scorers import ScorerSettings, prepare_scorer

    settings = ScorerSettings(
        model=options.model,
        kind=options.scorer,
        reference=options.reference,
        beta=options.beta,
        revision=options.revision,
        reference_revision=options.reference_revision,
        dtype=options.dtype,
        bf16=options.bf16,
        device=options.device,
        max_length=options.max_length,
        template=options.chat_template,
        reference_template=options.reference_chat_template,
        batch_size=options.batch_size,
    )
    settings.check()
    return _trial(options, source, lambda: prepare_scorer(settings), always_store=always_store)


def trial_of_judge(options: argparse.Namespace, source: str) -> Trial:
    """The same for the judge at `options.judge` (see `add_judge_arguments`), which is shown two
    responses; its answers are kept beside the result and never asked for twice."""
    from irl_align.evaluation.judges import PairwiseJudge, open_chat
    from irl_align.evaluation.rewards.judging import judge_subject
    from irl_align.evaluation.store import evaluation_folder

    def subject() -> Subject:
        chat = open_chat(
            options.judge,
            options.judge_model,
            evaluation_folder(None, options.out) / "requests",
            name_flag="--judge-model",
            key_env=options.judge_key_env,
            timeout=options.judge_timeout,
            workers=options.workers,
        )
        judge = PairwiseJudge(chat, max_tokens=options.judge_max_tokens)
        return judge_subject(
            judge,
            judge.record(),
            seed=options.seed,
            both_orders=options.both_orders,
            workers=options.workers,
        )

    return _trial(options, source, subject, always_store=True)


def _trial(
    options: argparse.Namespace,
    source: str,
    prepare: Callable[[], Subject],
    *,
    always_store: bool,
) -> Trial:
    from irl_align.evaluation.rewards.items import load_items
    from irl_align.evaluation.rewards.trial import run_trial
    from irl_align.evaluation.store import DataRecord, evaluation_folder, run_of

    items, report = load_items(
        source, split=options.split, limit=options.limit, on_bad_rows=options.on_bad_rows
    )
    # Libraries log on stdout while they are imported (DeepSpeed does): it belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        subject = prepare()
        folder = None
        if options.out is not None or always_store or run_of(subject.folder or Path()):
            folder = evaluation_folder(subject.folder, options.out)
        dropped = sum(report.dropped.values())
        return run_trial(
            items,
            DataRecord(source, report.sha256, revision=_revision(source), split=options.split),
            subject,
            folder=folder,
            seed=options.seed,
            settings={"limit": options.limit, "dropped_rows": dropped},
        )


def _revision(source: str) -> str | None:
    """REV of the hub name `org/name@REV`; None for files."""
    return source.partition("@")[2].partition(":")[0] or None if not Path(source).exists() else None


def render(trial: Trial) -> str:
    """The result for people, in a few lines."""
    from irl_align.evaluation.bootstrap import Interval

    evaluation = trial.evaluation

    def text(name: str) -> str:
        value = evaluation.estimate(name)
        if isinstance(value, Interval):
            return f"{value.mean:.3f}  95% [{value.low:.3f}, {value.high:.3f}]"
        return "-" if value is None else f"{value:g}"

    counted = "counted half" if evaluation.judge is not None else "counted as wrong"
    rows = [
        ("items", text("items")),
        ("accuracy", text("accuracy")),
        ("ties", f"{text('ties')} ({counted})"),
    ]
    if "margin" in evaluation.metrics:
        rows.append(("margin", text("margin")))
    for name in evaluation.metrics:
        kind, _, part = name.partition("/")
        if kind == "subset":
            size = text(f"subset_items/{part}")
            rows.append((f"  {part}", f"{text(name)}  ({size} items)"))
        elif kind == "section" or name in ("average", "leaderboard_average", "subset_mean"):
            rows.append((part or name, text(name)))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    lines += [f"note: {note}" for note in evaluation.notes]
    dropped = evaluation.settings.get("dropped_rows")
    if dropped:
        lines.append(f"note: {dropped} rows could not be used and were left out")
    if trial.path is not None:
        lines.append(f"result: {trial.path}")
    return "\n".join(lines)


def check_parent(flag: str, path: Path) -> None:
    """UserError when the folder that is to hold `path` does not exist."""
    if not path.parent.is_dir():
        raise UserError(f"{flag} {path}: there is no folder {path.parent}; create it first")
