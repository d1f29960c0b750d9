"""No network, and how tests are dealt to several workers (`pytest -n`).

By file, so that what a module makes once is made once; by folder where more than a file shares
something dear.
"""

from __future__ import annotations

import os

import pytest

# No test may reach for a hub: without one every request is tried again for minutes.
os.environ["HF_HUB_OFFLINE"] = "1"

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Before torch is imported: as many threads as there are cores for a worker, so that workers do
    # not wait for each other's.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = (cores or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

# One process that has imported everything already, and one whole run.
TOGETHER = ("tests/recipes/",)


@pytest.hookimpl(optionalhook=True)  # without the plugin tests run one after the other
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrFolder(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            for folder in TOGETHER:
                if nodeid.startswith(folder):
                    return folder
            return super()._split_scope(nodeid)

    return ByFileOrFolder(config, log)
