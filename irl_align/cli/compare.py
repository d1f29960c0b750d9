"""`irl-align compare RUN RUN ...`: last numbers and stored evaluations of runs, side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irl_align.evaluation.report.collect import Estimate, RunView
    from irl_align.evaluation.store import Evaluation

# Settings that another machine or batch may change without making it another evaluation.
_PASSING = ("device", "batch_size", "template_hash", "reference_template_hash", "bf16", "dtype")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="one table of runs: last metrics and stored evaluations",
        description="A column a run, a row a measure: the last round that has it, then the latest "
        "stored result of every evaluation (RUN/evaluations). Evaluations share a row only when "
        "kind, data, judge and settings are the same.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs, or their names")
    parser.add_argument("--root", default="runs", help="where runs lie (default: runs)")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from irl_align.cli.runs import find_run, print_table
    from irl_align.evaluation.report import collect_run
    from irl_align.evaluation.report.evaluations import evaluations_of
    from irl_align.evaluation.report.svg import estimate_text

    views = [collect_run(find_run(name, options.root), completions=False) for name in options.runs]
    columns: list[dict[str, tuple[Estimate, str]]] = []
    labels: dict[str, str] = {}
    for view in views:
        evaluations, problems = evaluations_of(view)
        column = {**_metrics(view, labels), **_stored(view, evaluations, labels)}
        columns.append(column)
        for text in problems.values():
            print(f"note: {text}")
    names = _titles([view.path for view in views])
    if options.json:
        plain = {
            name: {
                labels[key]: {
                    "mean": value.mean, "low": value.low, "high": value.high, "of": origin
                }
                for key, (value, origin) in column.items()
            }
            for name, column in zip(names, columns, strict=True)
        }  # fmt: skip
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return 0
    table = [["", *names], ["status", *(view.status.sentence() for view in views)]]
    for key, label in labels.items():
        cells = [
            f"{estimate_text(column[key][0])} ({column[key][1]})" if key in column else "-"
            for column in columns
        ]
        table.append([label, *cells])
    print_table(table, left=len(table[0]))
    return 0


def _metrics(view: RunView, labels: dict[str, str]) -> dict[str, tuple[Estimate, str]]:
    """Each measure's value in the last round that has it."""
    from irl_align.evaluation.report.measures import MEASURES, measured

    found = {}
    for measure in MEASURES:
        values = measured(view, measure.key).values
        stage = next((stage for stage in reversed(view.rounds) if stage.name in values), None)
        if stage is not None:
            labels.setdefault(measure.key, measure.title)
            found[measure.key] = (values[stage.name], stage.title)
    return found


def _stored(
    view: RunView, evaluations: Sequence[Evaluation], labels: dict[str, str]
) -> dict[str, tuple[Estimate, str]]:
    """The headline of the latest result of each evaluation."""
    from irl_align.evaluation.report.evaluations import evaluation_rows

    found = {}
    rows = evaluation_rows(view, evaluations)
    for evaluation, row in zip(evaluations, rows, strict=True):  # oldest first: the latest stays
        for name, value in row.numbers.items():
            key = f"{_sameness(evaluation)}/{name}"
            scorer = evaluation.settings.get("scorer", "reward")
            how = "" if scorer == "reward" else f" by {scorer}"
            label = f"{row.kind} {name}{how}, {row.data}"
            taken = [k for k, known in labels.items() if known == label and k != key]
            labels.setdefault(key, f"{label} [{evaluation.key}]" if taken else label)
            found[key] = (value, row.model)
    return found


def _sameness(evaluation: Evaluation) -> str:
    from irl_align.core.provenance import config_hash

    settings = {k: v for k, v in evaluation.settings.items() if k not in _PASSING}
    data = evaluation.data
    same: Mapping[str, Any] = {
        "kind": evaluation.kind,
        "data": [data.sha256 or data.source, data.revision, data.split],
        "judge": evaluation.judge,
        "settings": settings,
    }
    return config_hash(same)


def _titles(paths: Sequence[Path]) -> list[str]:
    """Names of the folders; whole paths where two are the same."""
    names = [path.resolve().name for path in paths]
    alike = {name for name in names if names.count(name) > 1}
    return [str(p) if n in alike else n for p, n in zip(paths, names, strict=True)]
