"""Where a run stands: which round and phase, and whether a process is at work on it."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irl_align.core.run import DONE, FOLDERS


@dataclass(frozen=True)
class Status:
    """`state`: running | interrupted | finished; `round` and `phase` say where it stands."""

    state: str
    rounds_done: int
    rounds_total: int | None
    round: int | None = None
    phase: str | None = None

    def sentence(self) -> str:
        total = f" of {self.rounds_total}" if self.rounds_total is not None else ""
        done = f"{self.rounds_done}{total} rounds done"
        if self.state == "finished":
            return f"finished, {done}"
        if self.phase is None:
            return f"{self.state}, {done}"
        where = f"round {self.round}, {self.phase}" if self.round is not None else self.phase
        return f"{self.state} in {where}; {done}"


def read_status(path: Path, config: Mapping[str, Any], results: Mapping[str, Any]) -> Status:
    """The status of the run in `path`, from its folders alone (it takes no lock).

    The count of committed rounds decides over the lock, because a run writes its last report
    while it still holds it; a run that stopped early says `"finished": true` in its results.
    """
    rounds = path / "rounds"
    done = 1 + max(
        (int(mark.parent.name) for mark in rounds.glob(f"*/{DONE}") if mark.parent.name.isdigit()),
        default=-1,
    )
    total = config.get("rounds")
    total = total if isinstance(total, int) and not isinstance(total, bool) else None
    if (total is not None and done >= total) or results.get("finished") is True:
        return Status("finished", done, total)
    state = "running" if _is_running(path) else "interrupted"
    current = rounds / f"{done:04d}"
    if current.is_dir():
        return Status(state, done, total, done, _open_phase(current))
    setup = _open_setup(path) if done == 0 else None
    return Status(state, done, total, None, f"setup ({setup})" if setup else None)


def _is_running(path: Path) -> bool:
    """Whether a process holds the run's lock.

    The lock's text names its holder; a holder that is gone needs no probe. Only a living one is
    probed with a shared lock, which is given back at once, so that looking at a run that nobody
    holds can never make a starting one believe that it is taken.
    """
    text = _lock_text(path).strip()
    match = re.fullmatch(r"process (\d+) on (.+)", text)
    if match is None:
        return False
    if match[2] == socket.gethostname():
        try:
            os.kill(int(match[1]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    try:
        with open(path / ".lock", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open_phase(folder: Path) -> str:
    """The phase that was begun and not committed, else the first that is not there."""
    for name, place in FOLDERS.items():
        if (folder / f".{place}.partial").exists():
            return name
    return next(
        (name for name, place in FOLDERS.items() if not (folder / place).is_dir()), "commit"
    )


def _open_setup(path: Path) -> str | None:
    """The setup stage that was begun and not committed, or the last one that was."""
    folder = path / "setup"
    if not folder.is_dir():
        return None
    names = sorted(item.name for item in folder.iterdir())
    partial = [name for name in names if name.endswith(".partial")]
    if partial:
        return partial[-1].removesuffix(".partial").lstrip(".")
    return f"after {names[-1]}" if names else None


def _lock_text(path: Path) -> str:
    try:
        return (path / ".lock").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
