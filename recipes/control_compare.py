"""Methods of inverse RL beside each other: tasks x methods x seeds, in parallel.

    python recipes/control_compare.py configs/control/compare/pendulum.yaml
    python recipes/control_compare.py configs/control/compare/robots.yaml \\
        demonstrations.path=data/{environment}.npz --environments Hopper,Ant --jobs 4
    python recipes/control_compare.py configs/control/compare/offline.yaml \\
        demonstrations.path=experts dataset.path=data/{environment}/{dataset}.npz

A task is an environment, or offline an environment with a data set. Every run has a folder of its
own, run_dir/TASK/METHOD/seed-S (a method that takes no data set has one for all of an
environment's), with a log.txt. The same command goes on after a crash: finished runs are not
repeated, others go on behind their last committed round. compare.json, compare.csv and one plot a
task tell of all that are finished; `scores=TABLE`, which may be set at any time, adds normalised
scores (eval/control_references.py measures the table). The exit status is 1 when a run failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/control/compare")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--environments", help="only these of the grid, with commas between")
    parser.add_argument("--methods", help="only these of the grid, with commas between")
    parser.add_argument("--jobs", type=int, help="runs at a time; default: one a core")
    parser.add_argument(
        "--check", action="store_true", help="only look whether all of it could run"
    )
    arguments = parser.parse_intermixed_args()

    from irl_align.control.grid import CompareConfig, check, grid, run_cell
    from irl_align.core.lock import FolderLock
    from irl_align.core.processes import Job, run_jobs

    jobs = arguments.jobs if arguments.jobs is not None else len(os.sched_getaffinity(0))
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: ask for 1 or more")
    config = load_config(CompareConfig, arguments.config, arguments.overrides)
    for name in ("environments", "methods"):
        config = _only(config, name, getattr(arguments, name))
    cells, references = grid(config), config.references()
    experts = check(cells)
    runs = {cell.folder: cell for cell in cells}  # some stand in several rows
    left = [cell for cell in runs.values() if not cell.finished()]
    print(f"{len(runs)} runs, {len(runs) - len(left)} of them finished before")
    if arguments.check:
        return 0
    home = Path(config.run_dir)
    home.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(home)
    lock.acquire()
    try:
        todo = [Job(cell.name, run_cell, (cell,), cell.folder / "log.txt") for cell in left]
        errors: dict[Path, str] = {}
        for number, (job, error) in enumerate(run_jobs(todo, jobs), start=1):
            if error is not None:
                errors[job.log.parent] = error
            said = f"failed: {error}" if error is not None else "finished"
            print(f"[{number}/{len(todo)}] {job.name}: {said}", flush=True)
        print(report(home, cells, errors, experts, references, config.columns))
    finally:
        lock.release()
    for folder, error in errors.items():
        print(f"failed: {runs[folder].name}: {error}", file=sys.stderr)
    return 1 if errors else 0


def report(
    home: Path,
    cells: list[Any],
    errors: dict[Path, str],
    experts: dict[str, float | None],
    references: dict[str, Any],
    columns: list[str],
) -> str:
    from irl_align.control.methods import method
    from irl_align.core.run import RunDirectory
    from irl_align.evaluation.comparison import Ended, report_comparison
    from irl_align.evaluation.returns import Curve

    ended = []
    for cell in cells:
        curve, error, of = None, errors.get(cell.folder), method(cell.learner)
        beside: dict[str, float] = {}
        if error is None:
            history = RunDirectory.read(cell.folder).history()
            curve = Curve.of(cell.name, history, steps=of.steps)
            last = {key: value for row in history for key, value in row.items()}
            beside = {key: last[key] for key in columns if key in last}
        ended.append(Ended(cell.task.name, cell.method, cell.seed, curve, error, of.axis, beside))
    scores = {task: one.score for task, one in references.items()}
    text = report_comparison(home, ended, experts, scores)
    for key in columns:
        if not any(key in run.beside for run in ended):
            text += f"\ncolumns: no run has the metric {key}"
    return text


def _only(config: Any, name: str, wanted: str | None) -> Any:
    """The part of the grid that was asked for."""
    if wanted is None:
        return config
    there = getattr(config, name)
    chosen = [part.strip() for part in wanted.split(",") if part.strip()]
    for part in chosen:
        if part not in there:
            raise UserError(f"--{name} {part}: the grid has {', '.join(there)}")
    if not chosen:
        raise UserError(f"--{name}: name one or more of {', '.join(there)}")
    kept = {part: there[part] for part in chosen}
    environments = kept if name == "environments" else config.environments
    methods = kept if name == "methods" else config.methods
    cells = {
        key: value
        for key, value in config.cells.items()
        if any(key.startswith(f"{e}/") for e in environments) and key.rpartition("/")[2] in methods
    }
    return replace(config, environments=environments, methods=methods, cells=cells)


if __name__ == "__main__":
    exit_with_clear_errors(main)
