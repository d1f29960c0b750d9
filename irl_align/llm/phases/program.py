"""A phase as a program: `python -m irl_align.llm.phases.program JOB.json`.

Every process of a launch runs the same job, and answers in a file beside it.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from irl_align.core.errors import explain
from irl_align.core.files import atomic_write_json
from irl_align.llm.phases.job import PhaseJob, result_path

__all__ = ["main"]


def main(job_file: Path) -> int:
    """Run the job in `job_file` and leave {"metrics": ...} or {"error": ..., "mendable": ...}."""
    from irl_align.llm.processes import die_with_parent
    from irl_align.llm.quiet import quiet_libraries

    die_with_parent()
    quiet_libraries()
    rank = int(os.environ.get("RANK", "0"))
    job = PhaseJob.read(job_file)
    try:
        from irl_align.llm.phases.table import run_job

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
