"""`irl-align report RUN`: write the run's HTML page."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="write one self-contained HTML page about a run",
        description="Curves per round, samples side by side, lineage and settings, in "
        "RUN/report.html. Works on unfinished runs too.",
    )
    parser.add_argument("run_dir", metavar="RUN", help="folder of a run, or its name under --root")
    parser.add_argument("--root", default="runs", help="where runs lie (default: runs)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from irl_align.cli.runs import find_run
    from irl_align.evaluation.report import write_report

    print(write_report(find_run(options.run_dir, options.root)))
    return 0
