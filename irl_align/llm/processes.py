"""Child processes that never outlive their parent.

A phase that went on after its supervisor was killed would write into a folder that the next start
believes to be its own, so children ask the kernel to be killed with their parent (Linux), and
readers of a pipe end at its end (everywhere).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["CHILD_ENVIRONMENT", "alone_environment", "child_environment", "die_with_parent"]

_PR_SET_PDEATHSIG = 1
_PARENT_KEY = "IRL_ALIGN_PARENT"

_LAUNCHER_KEYS = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_NAME",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)

# Children speak when they have something to say.
CHILD_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "TQDM_DISABLE": "1",
}


def child_environment() -> dict[str, str]:
    """This process's environment for a child, with the parent named.

    Precision is the configuration's alone (`model.bf16`), whatever `accelerate launch` was told.
    """
    inherited = {k: v for k, v in os.environ.items() if k != "ACCELERATE_MIXED_PRECISION"}
    return {**CHILD_ENVIRONMENT, **inherited, _PARENT_KEY: str(os.getpid())}


def alone_environment() -> dict[str, str]:
    """As :func:`child_environment`, without the launcher's: a child that is no rank of anything.

    Of several processes on one machine each child sees the GPU of its parent's local rank only.
    """
    environment = {
        k: v
        for k, v in child_environment().items()
        if k not in _LAUNCHER_KEYS and not k.startswith(("TORCHELASTIC_", "ACCELERATE_"))
    }
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    # An empty list hides all GPUs on purpose.
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1 and devices != "":
        local = int(os.environ["LOCAL_RANK"])
        visible = devices.split(",") if devices else [str(i) for i in range(local + 1)]
        environment["CUDA_VISIBLE_DEVICES"] = visible[local % len(visible)]
    return environment


def die_with_parent() -> None:
    """Called first in a child: SIGKILL me when my parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.environ.get(_PARENT_KEY)
    # The parent may have died before the call above.
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)
