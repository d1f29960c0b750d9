"""One writer per run directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from irl_align.core.errors import UserError

# Locks of this process; strong references, so that a forgotten holder is dropped in children too.
_held: set[FolderLock] = set()


class FolderLock:
    """An exclusive lock on a folder that the operating system gives back when its holder dies.

    A ``flock`` on ``<folder>/.lock``, whose text names the holder. It is not inherited: an exec
    closes it and a forked child drops it, so that a killed run leaves nothing locked behind.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises UserError naming the holder when another process has the lock; OSError else."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise UserError(
                f"{self.path.parent} is in use by {holder or 'another process'}; wait for it, "
                "end it, or choose another run_dir"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)


def _drop_in_child() -> None:
    for lock in list(_held):
        with contextlib.suppress(OSError):
            lock.release()


os.register_at_fork(after_in_child=_drop_in_child)
