"""`irl-align runs [RUN] [--json]`: which runs there are, where each stands, what it measured."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irl_align.core.errors import UserError

if TYPE_CHECKING:
    from irl_align.evaluation.report import RunView

# Columns of the listing: short name, measure.
_LISTED = (
    ("hidden", "hidden_reward"),
    ("return", "return"),
    ("gain", "gain_over_sft"),
    ("accuracy", "reward_accuracy"),
    ("human", "preference_accuracy"),
    ("score", "held_out_score"),
    ("kl", "kl"),
    ("length", "length"),
    ("eos", "eos_rate"),
)


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "runs",
        help="list runs, or show one",
        description="Without RUN: every run under --root with its status and last metrics. "
        "With RUN: its rounds and phases. --json prints everything for programs.",
    )
    parser.add_argument(
        "run_dir", metavar="RUN", nargs="?", help="folder of a run, or its name under --root"
    )
    parser.add_argument("--root", default="runs", help="where runs lie (default: runs)")
    parser.add_argument("--json", action="store_true", help="machine-readable, all metrics")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.run_dir is None:
        return _list(Path(options.root), as_json=options.json)
    return _show(find_run(options.run_dir, options.root), as_json=options.json)


def find_run(name: str, root: str) -> Path:
    """The folder `name`, else `root`/`name`; UserError with the nearest names otherwise."""
    for path in (Path(name), Path(root) / name):
        if (path / "config.yaml").is_file():
            return path
    if Path(name).is_dir():
        raise UserError(f"{name} is not a run: it holds no config.yaml. Give a run's run_dir")
    folder = Path(root)
    names = [item.name for item in folder.iterdir() if item.is_dir()] if folder.is_dir() else []
    near = difflib.get_close_matches(Path(name).name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; {root}/ holds {len(names)} runs"
    raise UserError(f"no run {name!r}, neither as a folder nor under {root}/{hint}")


def _list(root: Path, *, as_json: bool) -> int:
    from irl_align.evaluation.report import as_json as plain
    from irl_align.evaluation.report import list_runs

    views, problems = list_runs(root)
    if as_json:
        runs = [plain(view) for view in views]
        print(json.dumps({"runs": runs, "unreadable": problems}, indent=2, ensure_ascii=False))
        return 0
    if not views and not problems:
        print(f"no runs under {root}/")
        return 0
    rows = [(view.path.name, view.status.sentence(), _started(view), _last(view)) for view in views]
    columns = [name for name, key in _LISTED if any(key in last for *_, last in rows)]
    keys = [key for name, key in _LISTED if name in columns]
    table = [["run", "status", "started", *columns]]
    for name, status, started, last in rows:
        table.append([name, status, started, *(last.get(key, "-") for key in keys)])
    print_table(table, left=3)
    for name, problem in problems.items():
        print(f"{name}: cannot be read: {problem}")
    return 0


def _show(path: Path, *, as_json: bool) -> int:
    from irl_align.evaluation.report import as_json as plain
    from irl_align.evaluation.report import collect_run
    from irl_align.evaluation.report.evaluations import (
        evaluation_rows,
        evaluations_of,
        evaluations_text,
    )
    from irl_align.evaluation.report.measures import measured
    from irl_align.evaluation.report.svg import duration, estimate_text

    view = collect_run(path, completions=not as_json)
    if as_json:
        print(json.dumps(plain(view), indent=2, ensure_ascii=False))
        return 0
    print(f"{path}: {view.status.sentence()}")
    curves = [(name, measured(view, key).values) for name, key in _LISTED]
    has_hidden = any(name == "hidden" for name, values in curves if values)
    curves = [
        (name, values)
        for name, values in curves
        # The own model's score is a stand-in for runs without a hidden reward.
        if values and not (has_hidden and name == "score")
    ]
    table = [["", *(name for name, _ in curves), "time"]]
    for stage in view.stages:
        cells = [
            estimate_text(values[stage.name]) if stage.name in values else "-"
            for _, values in curves
        ]
        spent = sum(phase.seconds or 0.0 for phase in stage.phases.values())
        table.append([stage.title, *cells, duration(spent)])
    if len(table) > 1:
        print_table(table, left=1)
    evaluations, problems = evaluations_of(view)
    if text := evaluations_text(evaluation_rows(view, evaluations), problems):
        print(text)
    page = path / "report.html"
    print(f"report: {page}" if page.exists() else f"report: irl-align report {path}")
    return 0


def _last(view: RunView) -> dict[str, str]:
    """Measure -> text of the last round that has it."""
    from irl_align.evaluation.report.measures import measured
    from irl_align.evaluation.report.svg import number

    found = {}
    for _, key in _LISTED:
        values = measured(view, key).values
        stage = next((stage for stage in reversed(view.rounds) if stage.name in values), None)
        if stage is not None:
            found[key] = number(values[stage.name].mean)
    return found


def _started(view: RunView) -> str:
    starts = view.info.get("starts")
    if isinstance(starts, list) and starts and isinstance(starts[0], dict):
        return str(starts[0].get("time", "-"))[:16].replace("T", " ")
    return "-"


def print_table(rows: Sequence[Sequence[str]], *, left: int) -> None:
    """Columns as wide as their widest cell; the first `left` aligned left, numbers right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
