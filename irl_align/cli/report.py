"""`irl-align report RUN`: write the run's HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="write one self-contained HTML page about a run",
        description="Curves per round, stored evaluations, samples side by side, lineage and "
        "settings, in RUN/report.html. Works on unfinished runs too.",
    )
    parser.add_argument("run_dir", metavar="RUN", help="folder of a run, or its name under --root")
    parser.add_argument("--root", default="runs", help="where runs lie (default: runs)")
    parser.add_argument(
        "--evaluations",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="more results beside RUN/evaluations; those of the run's models are shown",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from irl_align.cli.runs import find_run
    from irl_align.core.errors import UserError
    from irl_align.evaluation.report import collect_run, write_report
    from irl_align.evaluation.report.evaluations import (
        evaluation_rows,
        evaluations_of,
        evaluations_text,
    )

    path = find_run(options.run_dir, options.root)
    for folder in options.evaluations:
        if not folder.is_dir():
            raise UserError(f"--evaluations {folder}: no such folder")
    print(write_report(path, options.evaluations))
    view = collect_run(path, completions=False)
    evaluations, problems = evaluations_of(view, options.evaluations)
    if text := evaluations_text(evaluation_rows(view, evaluations), problems):
        print(text)
    return 0
