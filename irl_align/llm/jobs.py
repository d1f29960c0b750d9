"""A phase as a program: what it is asked to do, in a file, and where it answers.

`python -m irl_align.llm.jobs JOB.json` runs one; every process of a launch runs the same job.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irl_align.core.errors import explain
from irl_align.core.files import atomic_write_json

__all__ = ["PhaseJob", "result_path", "run_job"]


@dataclass(frozen=True)
class PhaseJob:
    """One phase: `name` (a key of `irl_align.llm.phases.PHASES`), resolved configuration, named
    input paths, the folder to write into and the phase's seed."""

    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    out: str
    seed: int
    round: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        atomic_write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> PhaseJob:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def result_path(job_file: Path, rank: int) -> Path:
    return job_file.with_suffix(f".result-{rank}.json")


def run_job(job: PhaseJob) -> dict[str, float]:
    """Run the phase in this process; returns its metrics (the same on every rank)."""
    from irl_align.llm.phases import run_phase

    return run_phase(job)


def main(job_file: Path) -> int:
    from irl_align.llm.processes import die_with_parent
    from irl_align.llm.quiet import quiet_libraries

    die_with_parent()
    quiet_libraries()
    rank = int(os.environ.get("RANK", "0"))
    job = PhaseJob.read(job_file)
    try:
        answer: dict[str, Any] = {"metrics": run_job(job)}
        code = 0
    except Exception as error:
        message = explain(error)
        if message is None:
            traceback.print_exc()
        answer = {"error": message or f"{type(error).__name__}: {error}", "mendable": bool(message)}
        code = 2 if message else 1
    atomic_write_json(result_path(job_file, rank), answer)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is on disk. Tear-down of process groups and engines may hang or abort.
    os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
