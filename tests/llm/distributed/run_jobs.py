"""Runs the jobs of the files named on the command line, one after another, in this process.

    torchrun --nproc_per_node 2 run_jobs.py JOB.json ...        (or plain python: one process)

Rank 0 leaves the metrics of each job beside its file. A separate program, because a test must not
join a process group, and because one launch for all jobs pays for one start.
"""

import json
import os
import sys
from pathlib import Path

from irl_align.llm.jobs import PhaseJob, run_job


def main(files: list[Path]) -> None:
    for file in files:
        job = PhaseJob.read(file)
        metrics = run_job(job)
        if os.environ.get("RANK", "0") == "0":
            file.with_suffix(".metrics.json").write_text(json.dumps(metrics))
    sys.stdout.flush()
    os._exit(0)  # everything is on disk; tear-down of process groups may abort


if __name__ == "__main__":
    main([Path(a) for a in sys.argv[1:]])
