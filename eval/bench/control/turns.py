"""Ours and a peer in turn, each time in a process of its own on one core, and the row they make.

The ratio is one of CPU time: both sides use one thread, and what else the machine is doing
lengthens the wall clock of either by chance. `ratio_wall` stands beside it, and on an otherwise
idle machine is the same.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError

PEERS = Path(".bench/venv/bin/python")
Measured = dict[str, Any]
Work = Callable[[int], Measured]  # of the number of the turn

_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


def ours(module: str, alone: bool = True, /, **arguments: Any) -> Measured:
    """What `eval.bench.control.ours.MODULE` measures, with this interpreter.

    `alone` ties the process to one core; only where nothing is timed can several go side by side.
    """
    return _measure(Path(sys.executable), f"eval.bench.control.ours.{module}", alone, arguments)


def peer(module: str, alone: bool = True, /, **arguments: Any) -> Measured:
    """What `eval.bench.control.peers.MODULE` measures, with the peers' interpreter.

    Raises UserError when they are not installed.
    """
    if not PEERS.exists():
        raise UserError(f"{PEERS}: no such file; install the peers with: make peers")
    return _measure(PEERS, f"eval.bench.control.peers.{module}", alone, arguments)


def plain(module: str, alone: bool = True, /, **arguments: Any) -> Measured:
    """What `eval.bench.control.plain.MODULE` measures, with this interpreter."""
    return _measure(Path(sys.executable), f"eval.bench.control.plain.{module}", alone, arguments)


def in_turn(mine: Work, other: Work, turns: int) -> dict[str, list[Measured]]:
    """ABAB...: so that a machine that gets slower or faster does so for both."""
    found: dict[str, list[Measured]] = {"ours": [], "peer": []}
    for turn in range(turns):
        # The peer first: when it is not there, that is known at once.
        found["peer"].append(other(turn))
        found["ours"].append(mine(turn))
    return found


def row(found: dict[str, list[Measured]], unit: str, **more: Any) -> dict[str, Any]:
    """Medians of `cpu` over the turns and their ratio; the same of `wall`; all that was measured.

    Both are times for the same work, so a ratio above 1 means that ours is faster.
    """

    def median(who: str, clock: str) -> float:
        return statistics.median(run[clock] for run in found[who])

    mine, other = median("ours", "cpu"), median("peer", "cpu")
    return {
        "ours": mine,
        "peer": other,
        "ratio": other / mine,
        "ratio_wall": median("peer", "wall") / median("ours", "wall"),
        "unit": unit,
        "runs": found,
        **more,
    }


def last_json(output: str) -> Measured:
    """The last line that a measuring process printed. ValueError when that is no JSON object."""
    lines = output.strip().splitlines()
    found = json.loads(lines[-1]) if lines else None
    if not isinstance(found, dict):
        raise ValueError("no line of JSON at the end")
    return found


def _measure(python: Path, module: str, alone: bool, arguments: Measured) -> Measured:
    command = [str(python), "-m", module, json.dumps(arguments)]
    done = subprocess.run(
        command,
        env={**os.environ, **_ONE_THREAD},
        capture_output=True,
        text=True,
        preexec_fn=_one_core if alone else None,
    )
    if done.returncode:
        raise UserError(_failure(module, done.stderr))
    return last_json(done.stdout)


def _one_core() -> None:
    # Also for the thread pools that no variable limits; there is no such call outside of Linux.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _failure(module: str, errors: str) -> str:
    last = (errors.strip().splitlines() or ["no message"])[-1]
    mend = "; install the peers anew with: rm -r .bench/venv && make peers"
    missing = ".peers." in module and "ModuleNotFoundError" in last
    return f"{module} failed: {last}{mend if missing else ''}"
