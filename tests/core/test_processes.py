from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from irl_align.core.processes import Job, run_jobs

ROOT = Path(__file__).parents[2]
# What a job does: `exec` can be found by name in a process that knows nothing of this file.
KINDS = {
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "mistaken": "from irl_align.core.errors import UserError; raise UserError('another file')",
    "faulty": "1 / 0",
    "leaving": "import os; os._exit(7)",
    "well": "import os; print(os.environ['OMP_NUM_THREADS'], 'thread')",
}


def test_what_ends_one_ends_no_other(tmp_path):
    (tmp_path / "well.log").write_text("an earlier start\n")
    jobs = [Job(kind, exec, (code,), tmp_path / f"{kind}.log") for kind, code in KINDS.items()]
    ended = {job.name: error for job, error in run_jobs(jobs, 2)}
    faulty = tmp_path / "faulty.log"
    assert ended == {
        "killed": "killed by signal 9",
        "mistaken": "another file",
        "faulty": f"ZeroDivisionError: division by zero (traceback in {faulty})",
        "leaving": "ended with exit code 7",
        "well": None,
    }
    assert (tmp_path / "well.log").read_text() == "an earlier start\n1 thread\n"
    assert "Traceback" in faulty.read_text()
    assert (tmp_path / "mistaken.log").read_text() == "error: another file\n"


PARENT = """
from pathlib import Path
from irl_align.core.processes import Job, run_jobs
if __name__ == "__main__":
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    list(run_jobs([Job("waiting", exec, (code,), Path("log"))], 1))
"""


def test_they_end_with_whoever_started_them(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path, env=environment)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    child = int(log.read_text())
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not alive(child))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
