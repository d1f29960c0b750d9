"""Stored evaluations of a run's models, beside its rounds.

Results lie in RUN/evaluations; others belong to the run when the hash of their model is that of a
model that the run has committed, wherever they were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from irl_align.evaluation.bootstrap import Interval
from irl_align.evaluation.report.collect import Estimate, RunView, Stage
from irl_align.evaluation.report.svg import estimate_text
from irl_align.evaluation.store import FOLDER_NAME, Evaluation, load_evaluations

__all__ = [
    "EvaluationRow",
    "evaluation_rows",
    "evaluations_html",
    "evaluations_of",
    "evaluations_text",
    "model_names",
]


@dataclass(frozen=True)
class EvaluationRow:
    """One result as a line of a table; `numbers` are its headline."""

    kind: str
    model: str
    data: str
    date: str
    numbers: dict[str, Estimate]
    notes: tuple[str, ...]


def model_names(view: RunView) -> dict[str, str]:
    """Hash of each model that the run has committed -> "round 1 reward", "SFT", "base"."""
    names: dict[str, str] = {}
    for stage in (*view.setup.values(), *view.rounds):
        for phase in stage.phases.values():
            if phase.model_hash is not None:
                names.setdefault(phase.model_hash, _title(stage, phase.name))
    return names


def _title(stage: Stage, phase: str) -> str:
    return stage.title if stage.round is None else f"{stage.title} {phase}"


def evaluations_of(
    view: RunView, elsewhere: Iterable[Path] = ()
) -> tuple[list[Evaluation], dict[str, str]]:
    """The run's results, oldest first, and what is wrong with unreadable files.

    `elsewhere`: folders of results, of which those count whose model is one of the run's.
    """
    found, problems = load_evaluations(view.path / FOLDER_NAME)
    ours = model_names(view)
    keys = {evaluation.key for evaluation in found}
    for folder in elsewhere:
        more, wrong = load_evaluations(folder)
        problems |= {str(folder / name): text for name, text in wrong.items()}
        for evaluation in more:
            if evaluation.model.sha256 in ours and evaluation.key not in keys:
                found.append(evaluation)
                keys.add(evaluation.key)
    return sorted(found, key=lambda e: (e.date, e.kind, e.key)), problems


def evaluation_rows(view: RunView, evaluations: Iterable[Evaluation]) -> list[EvaluationRow]:
    """One row a result, in the order given."""
    names = model_names(view)
    return [_row(evaluation, names) for evaluation in evaluations]


def _row(evaluation: Evaluation, names: Mapping[str, str]) -> EvaluationRow:
    model = names.get(evaluation.model.sha256 or "", evaluation.model.path)
    scorer = evaluation.settings.get("scorer")
    # Of a reward model nothing needs to be said; a policy can be scored in several ways.
    if isinstance(scorer, str) and scorer != "reward":
        model += f", {scorer}"
    numbers = {}
    for name in evaluation.headline:
        value = evaluation.estimate(name)
        if isinstance(value, Interval):
            numbers[name] = Estimate(value.mean, value.low, value.high)
        elif value is not None:
            numbers[name] = Estimate(value)
    data = Path(evaluation.data.source).name
    if evaluation.data.items is not None:
        data += f" ({evaluation.data.items} items)"
    if evaluation.judge is not None and "model" in evaluation.judge:
        data += f", judge {evaluation.judge['model']}"
    return EvaluationRow(
        evaluation.kind, model, data, evaluation.date[:16], numbers, tuple(evaluation.notes)
    )


def evaluations_html(rows: Iterable[EvaluationRow], problems: Mapping[str, str]) -> str:
    """A table; empty text when there is nothing to show."""
    lines = []
    for row in rows:
        numbers = "<br>".join(
            f"{escape(name)} <b>{escape(estimate_text(value))}</b>"
            for name, value in row.numbers.items()
        )
        notes = "".join(f'<span class="range">{escape(note)}</span>' for note in row.notes)
        cells = (row.kind, row.model, row.data, row.date.replace("T", " "))
        lines.append(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}"
            f"<td>{numbers}{notes}</td></tr>"
        )
    wrong = "".join(f'<p class="meta">{escape(text)}</p>' for text in problems.values())
    if not lines:
        return wrong
    head = "".join(f"<th>{name}</th>" for name in ("evaluation", "model", "data", "date", "result"))
    return (
        f'<div class="card scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{wrong}"
    )


def evaluations_text(rows: Iterable[EvaluationRow], problems: Mapping[str, str]) -> str:
    """The same for a console, a line a result."""
    lines = []
    for row in rows:
        numbers = ", ".join(f"{name} {estimate_text(v)}" for name, v in row.numbers.items())
        lines.append(f"{row.kind}  {row.model}  on {row.data}: {numbers}")
    return "\n".join([*lines, *(f"cannot be read: {text}" for text in problems.values())])
