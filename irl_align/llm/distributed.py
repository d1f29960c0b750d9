"""Who this process is among the others, and the few exchanges that phases need."""

from __future__ import annotations

import datetime
import os
import socket
from dataclasses import dataclass
from typing import Any

__all__ = [
    "World",
    "all_gather_objects",
    "barrier",
    "free_port",
    "join",
    "join_deepspeed",
    "leave",
    "world",
]


@dataclass(frozen=True)
class World:
    """This process's place; size 1 when nobody launched several."""

    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def world() -> World:
    """The place by the launcher's environment (torchrun, accelerate launch, srun wrappers)."""
    return World(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def join(backend: str | None = None, hours: float = 72.0) -> World:
    """Enter the process group of the launcher's environment, unless already in one.

    `backend`: default nccl for the GPUs' tensors and gloo for everything else; this process's GPU
    becomes the current one. Raises RuntimeError when the group's size is not the environment's (a
    launcher that silently started fewer processes).
    """
    place = world()
    if place.size == 1:
        return place
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        if backend is None:
            backend = "gloo"
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
                backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, timeout=datetime.timedelta(hours=hours))
    if dist.get_world_size() != place.size:
        raise RuntimeError(f"WORLD_SIZE is {place.size}, the group has {dist.get_world_size()}")
    return place


def join_deepspeed() -> World:
    """As :func:`join`, with DeepSpeed's communication on top; on GPUs and on CPUs."""
    import torch

    if world().size == 1:
        # DeepSpeed wants a launcher's environment even of one process.
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        for key, value in {**alone, "MASTER_PORT": str(free_port())}.items():
            os.environ.setdefault(key, value)
    gpu = torch.cuda.is_available()
    if not gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    if not gpu:
        # A shared-memory collective that would be compiled for a minute; gloo does its work.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    place = join()
    deepspeed.init_distributed(
        dist_backend="nccl" if gpu else "gloo", auto_mpi_discovery=False, verbose=False
    )
    return place


def free_port() -> int:
    """A port that nobody listens on now, at this process's master address."""
    with socket.socket() as probe:
        probe.bind((os.environ.get("MASTER_ADDR", "127.0.0.1"), 0))
        return int(probe.getsockname()[1])


def leave() -> None:
    if world().size == 1:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    if world().size == 1:
        return
    import torch.distributed as dist

    dist.barrier()


def all_gather_objects(value: Any) -> list[Any]:
    """One picklable value of every process, in rank order."""
    if world().size == 1:
        return [value]
    import torch.distributed as dist

    gathered: list[Any] = [None] * world().size
    dist.all_gather_object(gathered, value)
    return gathered
