"""Work in processes of its own, a few at a time: what ends one of them ends none of the others.

A pool of workers would not do: when one of its processes is killed, all that it had to do is lost.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from irl_align.core.errors import explain


@dataclass(frozen=True)
class Job:
    """`function(*arguments)`, both importable by name or picklable.

    Attributes:
        log: takes what the process prints, behind what is there already.
    """

    name: str
    function: Callable[..., object]
    arguments: tuple[Any, ...]
    log: Path


@dataclass
class _Running:
    job: Job
    process: Any
    connection: Connection


def run_jobs(jobs: Sequence[Job], at_once: int) -> Iterator[tuple[Job, str | None]]:
    """Run all jobs; yields each as it ends, with what went wrong (None: nothing).

    Every process has one thread for linear algebra. They end when this one does, however it ends.
    """
    if at_once < 1:
        raise ValueError(f"at_once={at_once}: 1 or more")
    context = multiprocessing.get_context("spawn")
    waiting, running = list(reversed(jobs)), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_start(context, waiting.pop()))
            ended = wait([one.process.sentinel for one in running])
            for one in [one for one in running if one.process.sentinel in ended]:
                running.remove(one)
                yield one.job, _reason(one)
    finally:
        for one in running:
            one.process.kill()
            one.process.join()


def _start(context: Any, job: Job) -> _Running:
    ours, theirs = context.Pipe()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_child, args=(job, theirs), name=job.name)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a process starts
    try:
        process.start()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    theirs.close()
    return _Running(job, process, ours)


def _reason(one: _Running) -> str | None:
    one.process.join()
    message = None
    try:
        if one.connection.poll():
            message = one.connection.recv()
    except EOFError:
        pass
    one.connection.close()
    code = one.process.exitcode
    if code == 0:
        return None
    if message is not None:
        return str(message)
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _child(job: Job, connection: Connection) -> None:
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    try:
        job.function(*job.arguments)
    except BaseException as error:
        message = explain(error)
        if message is None:
            traceback.print_exc()
            message = f"{type(error).__name__}: {error} (traceback in {job.log})"
        else:
            print(f"error: {message}", file=sys.stderr)
        connection.send(message)
        sys.stderr.flush()
        sys.exit(1)


def _end_with_parent(connection: Connection) -> None:
    try:
        connection.recv()  # nothing is ever sent: this returns when the other end is gone
    except (EOFError, OSError):
        os._exit(1)
