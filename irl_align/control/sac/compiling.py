"""The update as machine code, where that is possible and worth its price.

Compiling costs tens of seconds once (a few when the cache of an earlier process is warm) and saves
about a millisecond an update at two layers of 64, less than that share at 256, where the matrix
products themselves take the time.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from irl_align.control.sac import step

Update = Callable[..., Tensor]
# Updates that pay for a cold compilation.
WORTH_IT = 10_000
# Below this width two threads lose more time in meeting than they gain.
_WIDE = 128


def why_not() -> str | None:
    """Why a step cannot be compiled here; None when it can."""
    import torch._dynamo

    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return f"torch {torch.__version__} does not trace torch.autograd.grad; it needs 2.13"
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        return "there is no C++ compiler (g++, or $CXX)"
    return None


@functools.cache
def compiled_update() -> Update:
    """`step.update` compiled; all agents of one shape and setting share the machine code."""
    import torch._dynamo

    torch._dynamo.config.trace_autograd_ops = True
    # Agents of several shapes may live in one process, and each shape is one entry.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 32)
    return torch.compile(step.update, fullgraph=True, dynamic=False, options={"cpp_wrapper": True})


@contextmanager
def threads_for(hidden: list[int]) -> Iterator[None]:
    """Within the block torch has one thread for narrow networks, and at most two for wide ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if max(hidden, default=0) < _WIDE else min(2, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
