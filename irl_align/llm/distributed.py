"""Who this process is among the others, and the few exchanges that phases need."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import Any

__all__ = ["World", "all_gather_objects", "barrier", "join", "leave", "world"]


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

    `backend`: default nccl with a GPU, gloo without. Raises RuntimeError when the group's size is
    not the environment's (a launcher that silently started fewer processes).
    """
    place = world()
    if place.size == 1:
        return place
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group(
            backend or ("nccl" if torch.cuda.is_available() else "gloo"),
            timeout=datetime.timedelta(hours=hours),
        )
    if dist.get_world_size() != place.size:
        raise RuntimeError(f"WORLD_SIZE is {place.size}, the group has {dist.get_world_size()}")
    return place


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
