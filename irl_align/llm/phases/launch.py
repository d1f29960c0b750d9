"""Supervisors and their children: how phases get processes of their own under any launcher.

Each process that `accelerate launch`, `torchrun` or plain python starts is a light supervisor.
Rank 0's supervisor drives the rounds; the others follow. For a phase each starts one child with
its own rank's environment and a fresh port, so the children form the phase's process group, and the
operating system takes back memory, threads and leaks at the phase's end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.llm.distributed import all_gather_objects, free_port, join, leave
from irl_align.llm.phases.job import PhaseJob, result_path
from irl_align.llm.processes import child_environment

__all__ = ["Launcher", "PhaseFailed"]


class PhaseFailed(RuntimeError):
    """A phase ended by a fault of the code or of the machine; its messages are on stderr."""


Handler = Callable[[PhaseJob, int, int], dict[str, float]]  # (job, rank, size) -> metrics


class Launcher:
    """Runs jobs on all ranks. `handlers`: jobs that run in the supervisor itself, by name (those
    that only talk to an engine process); all others run in children, or inline."""

    program: tuple[str, ...] = (sys.executable, "-m", "irl_align.llm.phases.program")
    grace_seconds = 20.0  # that a child has to fail by itself after another rank's has failed

    def __init__(self, *, inline: bool = False, handlers: dict[str, Handler] | None = None) -> None:
        self.place = join(backend="gloo")
        if inline and self.place.size > 1:
            raise UserError("launch.inline=true works with one process only; launch one, or unset")
        self.inline = inline
        self.handlers = handlers or {}
        self._jobs = 0
        self._port = 0

    @property
    def is_main(self) -> bool:
        return self.place.is_main

    def run(self, job: PhaseJob) -> dict[str, float]:
        """Rank 0: run `job` everywhere; metrics of rank 0. Raises what any rank raised."""
        self._broadcast({"job": job.__dict__, "port": free_port()})
        return self._together(job)

    def follow(self) -> None:
        """Ranks above 0: do what rank 0 says until it is done."""
        while (message := self._broadcast(None)) is not None:
            self._port = message["port"]
            try:
                self._together(PhaseJob(**message["job"]))
            except (PhaseFailed, UserError):
                # Rank 0 raised the same and tells when it is over.
                continue

    def close(self) -> None:
        if self.place.is_main:
            self._broadcast(None)
        leave()

    def _broadcast(self, message: dict[str, Any] | None) -> Any:
        if message is not None:
            self._port = message["port"]
        if self.place.size == 1:
            return message
        import torch.distributed as dist

        box = [message]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def _together(self, job: PhaseJob) -> dict[str, float]:
        self._jobs += 1
        try:
            answer: dict[str, Any] = {"metrics": self._here(job)}
        except UserError as error:
            answer = {"error": str(error), "mendable": True}
        except Exception as error:
            if self.place.size == 1:
                raise
            answer = {"error": f"{type(error).__name__}: {error}", "mendable": False}
        answers = all_gather_objects(answer)
        failed = [(rank, each) for rank, each in enumerate(answers) if "error" in each]
        # What a user can mend is the cause; that the other ranks lost a peer is its effect.
        for rank, each in sorted(failed, key=lambda x: not x[1]["mendable"]):
            if each["mendable"]:
                raise UserError(each["error"])
            where = f" (rank {rank})" if len(answers) > 1 else ""
            raise PhaseFailed(f"phase {job.name}{where}: {each['error']}")
        return dict(answers[0]["metrics"])

    def _here(self, job: PhaseJob) -> dict[str, float]:
        if job.name in self.handlers:
            return self.handlers[job.name](job, self.place.rank, self.place.size)
        if self.inline:
            from irl_align.llm.phases.table import run_job

            return run_job(job)
        return self._child(job)

    def _child(self, job: PhaseJob) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="irl-align-") as scratch:
            job_file = Path(scratch) / "job.json"
            job.write(job_file)
            environment = child_environment()
            if self.place.size > 1:
                environment["MASTER_PORT"] = str(self._port)
                # The agent's own store would mix the keys of all phases.
                environment.pop("TORCHELASTIC_USE_AGENT_STORE", None)
            code = self._wait(subprocess.Popen([*self.program, str(job_file)], env=environment))
            answer_file = result_path(job_file, self.place.rank)
            if not answer_file.exists():
                hint = ", probably out of memory" if code in (-9, 137) else ""
                raise PhaseFailed(
                    f"phase {job.name} ended without an answer (exit code {code}{hint}); its "
                    "messages are above. The same command goes on behind the last finished phase."
                )
            answer = json.loads(answer_file.read_text(encoding="utf-8"))
        if "error" in answer:
            if answer["mendable"]:
                raise UserError(answer["error"])
            raise PhaseFailed(f"phase {job.name} failed: {answer['error']}")
        return dict(answer["metrics"])

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        """Exit code of `child`. When another rank's child has failed, this one waits for a peer
        that will not come, so it is ended after a moment in which to fail by itself."""
        give_up_at: float | None = None
        try:
            while True:
                try:
                    code = child.wait(timeout=1.0 if self.place.size > 1 else None)
                    break
                except subprocess.TimeoutExpired:
                    if give_up_at is None and self._failure_flag():
                        give_up_at = time.monotonic() + self.grace_seconds
                    elif give_up_at is not None and time.monotonic() > give_up_at:
                        child.kill()
        except BaseException:
            child.kill()
            child.wait()
            raise
        if code != 0:
            self._failure_flag(raise_it=True)
        return code

    def _failure_flag(self, *, raise_it: bool = False) -> bool:
        """Whether the child of any rank has failed in this job, by the supervisors' store."""
        if self.place.size == 1:
            return False
        from torch.distributed.distributed_c10d import _get_default_store

        store, key = _get_default_store(), f"irl_align/failed/{self._jobs}"
        if raise_it:
            store.set(key, "1")
        return bool(store.check([key]))
