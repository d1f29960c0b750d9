"""Policy learners beside each other: one configuration, all methods, one table and one figure.

    python recipes/compare.py configs/llm/compare/quickstart.yaml
    python recipes/compare.py configs/llm/compare/quickstart.yaml --methods spin,ppo seeds=1
    python recipes/compare.py configs/llm/compare/quickstart.yaml --jobs 2 budget_hours=0.15

Every run has a folder of its own, run_dir/METHOD/seed-S, with the report of an ordinary run. The
same command goes on after a crash: finished runs are not repeated, others go on behind their last
finished phase. compare.json, compare.csv and compare.png in run_dir tell of all that have a round.
With --jobs that many seeds run at a time, one thread each: more is done in all, and less by each of
them in an hour, so the budget wants to be larger.
The exit status is 1 when a run failed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/llm/compare")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--methods", help="only these, with commas between")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time; for CPUs")
    parser.add_argument("--check", action="store_true", help="only look whether all could run")
    parser.add_argument("--report", action="store_true", help="only write table and figure")
    arguments = parser.parse_intermixed_args()

    from irl_align.core.lock import FolderLock
    from irl_align.evaluation.method_table import MethodRun, report_methods
    from irl_align.llm.method_comparison import (
        CompareConfig,
        check,
        grid,
        run_cells,
        run_seeds,
    )

    if arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: ask for 1 or more")
    config = load_config(CompareConfig, arguments.config, arguments.overrides)
    if arguments.methods is not None:
        wanted = [name.strip() for name in arguments.methods.split(",")]
        for name in wanted:
            if name not in config.methods:
                raise UserError(f"--methods {name}: the file has {', '.join(config.methods)}")
        config = replace(config, methods={name: config.methods[name] for name in wanted})
    cells = grid(config)
    home = Path(config.run_dir)
    failed: dict[str, str] = {}
    if not arguments.report:
        check(cells)
        if arguments.check:
            print(f"{len(cells)} runs could start")
            return 0
        home.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(home)
        lock.acquire()
        try:
            several = arguments.jobs > 1
            failed = run_seeds(cells, arguments.jobs, home) if several else run_cells(cells)
        finally:
            lock.release()
    runs = [MethodRun.read(c.method, c.seed, c.folder, failed.get(c.name)) for c in cells]
    print(report_methods(home, runs))
    for name, error in failed.items():
        print(f"failed: {name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
