"""One trial of a reward: grade every item, resumably, and record what came out.

Items are graded in chunks of like length, the longest first (if memory does not suffice, it shows
at once). With a folder for results each chunk is on the disk before the next begins: the same
command after a kill goes on behind it and scores no item twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.loggers import ConsoleLogger
from irl_align.evaluation.accuracy import groups_by_prompt, mean_by_prompt
from irl_align.evaluation.bootstrap import Interval, bootstrap_stratified
from irl_align.evaluation.item_log import ItemLog
from irl_align.evaluation.rewards.grading import Grade, Grader
from irl_align.evaluation.rewards.items import Item
from irl_align.evaluation.rewards.rewardbench import SECTIONS, is_rewardbench, rewardbench_metrics
from irl_align.evaluation.rewards.scorers import Subject
from irl_align.evaluation.store import DataRecord, Evaluation, save_evaluation

__all__ = ["Trial", "grade_items", "kind_of", "run_trial", "summarise"]

# Batches in a chunk. Items come sorted by length, so few are enough, and a kill costs little.
_BATCHES = 4


@dataclass(frozen=True)
class Trial:
    """`path`: the stored result; None when it was not stored."""

    evaluation: Evaluation
    grades: list[Grade]
    path: Path | None


def kind_of(items: Sequence[Item]) -> str:
    """The evaluation's name: "rewardbench", "best_of_n" or "preferences"."""
    if is_rewardbench(item.subset for item in items):
        return "rewardbench"
    return "best_of_n" if any(len(item.responses) > 2 for item in items) else "preferences"


def run_trial(
    items: Sequence[Item],
    data: DataRecord,
    subject: Subject,
    *,
    folder: Path | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Trial:
    """Grade `items` by `subject` and summarise.

    `folder`: for the result and the per-item rows; None stores nothing. `seed`: of the bootstrap
    (a judge's placement has its own setting). `settings`: of the data, added to the subject's.
    """
    evaluation = Evaluation(
        kind=kind_of(items),
        model=subject.model,
        others=subject.others,
        data=replace(data, items=len(items)),
        settings={**subject.settings, **(settings or {})},
        judge=subject.judge,
        seed=seed,
    )
    log = ItemLog(folder / evaluation.items_name) if folder is not None else None
    chunk = max(1, _BATCHES * int(subject.settings.get("batch_size", 2)) // 2)
    with log or contextlib.nullcontext():
        grades = grade_items(items, subject.load, log=log, chunk=chunk)
    metrics, headline, notes = summarise(grades, seed=seed)
    evaluation = replace(
        evaluation,
        metrics=metrics,
        headline=headline,
        notes=notes,
        items=evaluation.items_name if folder is not None else None,
    )
    path = save_evaluation(folder, evaluation) if folder is not None else None
    return Trial(evaluation, grades, path)


def grade_items(
    items: Sequence[Item],
    load: Callable[[], Grader],
    *,
    log: ItemLog | None = None,
    chunk: int = 128,
) -> list[Grade]:
    """A grade for each item, in the order given.

    `load` is called when an item is left to grade; `chunk`: items between two writes to the open
    `log`. Items for which a judge gave no readable answer are asked again by a later call: the
    endpoint may have been down.
    """
    known = (Grade.from_row(row) for row in (log.rows.values() if log else ()))
    done = {grade.id: grade for grade in known if grade.credit is not None}
    # Characters stand for tokens here; a scorer sorts by tokens inside the chunk.
    todo = sorted(
        (item for item in items if item.id not in done), key=lambda i: i.characters, reverse=True
    )
    if todo:
        grader = load()
        with ConsoleLogger().progress("grading", total=len(todo)) as progress:
            for part in _chunks(todo, chunk):
                grades = grader.grade(part)
                if log is not None:
                    log.append(grade.as_row() for grade in grades)
                done |= {grade.id: grade for grade in grades}
                progress.advance(len(part))
    if log is not None:
        log.finish([item.id for item in items])
    return [done[item.id] for item in items]


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


Metrics = dict[str, "float | Interval | None"]


def summarise(
    grades: Sequence[Grade], *, seed: int = 0
) -> tuple[Metrics, tuple[str, ...], tuple[str, ...]]:
    """(metrics, headline, notes) of an evaluation.

    Metrics: `accuracy` (all graded items alike) and `subset/NAME` with 95% intervals over prompts;
    `items`, `graded`, `ties`, `unreadable`, `too_long` as numbers; `margin` for scores;
    RewardBench's sections and averages, or `subset_mean` (every subset alike, as RewardBench 2
    averages) where there are several subsets. Raises UserError when no item could be graded.
    """
    graded = [grade for grade in grades if grade.credit is not None]
    if not graded:
        raise UserError(
            f"none of {len(grades)} items could be graded: no answer of the judge was readable"
        )
    counts = {
        "items": len(grades),
        "graded": len(graded),
        "ties": sum(grade.tie for grade in graded),
        "unreadable": len(grades) - len(graded),
        "too_long": sum(grade.too_long for grade in grades),
    }
    metrics: Metrics = {"accuracy": _accuracy(graded, seed), **counts}
    margins = [grade.margin for grade in graded if grade.margin is not None]
    if len(margins) == len(graded):
        metrics["margin"] = mean_by_prompt(margins, [g.prompt for g in graded], seed=seed)
    notes = []
    names = sorted({grade.subset for grade in graded if grade.subset is not None})
    for name in names:
        part = [grade for grade in graded if grade.subset == name]
        metrics[f"subset/{name}"] = _accuracy(part, seed)
        metrics[f"subset_items/{name}"] = len(part)
        metrics[f"subset_ties/{name}"] = sum(grade.tie for grade in part)
    headline: tuple[str, ...] = ("accuracy",)
    if is_rewardbench(names):
        sections, missing = rewardbench_metrics(graded, seed=seed)
        metrics |= sections
        notes += missing
        shown = ("average", *(f"section/{name}" for name in SECTIONS), "section/prior_sets")
        headline = tuple(key for key in shown if metrics[key] is not None)
    elif len(names) > 1:
        metrics["subset_mean"] = _subset_mean(graded, names, seed)
        headline = ("accuracy", "subset_mean")
    if counts["too_long"]:
        notes.append(
            f"{counts['too_long']} items are longer than the model reads and lost their start"
        )
    if counts["unreadable"]:
        notes.append(f"{counts['unreadable']} answers of the judge were unreadable and left out")
    return metrics, headline, tuple(notes)


def _accuracy(grades: Sequence[Grade], seed: int) -> Interval:
    credits = [float(grade.credit or 0.0) for grade in grades]
    return mean_by_prompt(credits, [grade.prompt for grade in grades], seed=seed)


def _subset_mean(grades: Sequence[Grade], names: Sequence[str], seed: int) -> Interval:
    strata = []
    for name in names:
        part = [grade for grade in grades if grade.subset == name]
        credits = [float(grade.credit or 0.0) for grade in part]
        strata.append(groups_by_prompt(credits, [grade.prompt for grade in part]))
    return bootstrap_stratified(strata, [1.0] * len(names), seed=seed)
