"""The update as machine code, where that is possible and worth its price.

Compiling costs tens of seconds once (a few when the cache of an earlier process is warm) and saves
about a millisecond an update at two layers of 64, less than that share at 256, where the matrix
products themselves take the time.
"""

from __future__ import annotations

import functools
import os
import shutil
import types
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from irl_align.control.sac import step
from irl_align.core.errors import UserError

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


def worth_compiling(choice: str, planned_updates: int | None, *, key: str, loss: str) -> bool:
    """Whether to compile, for the setting `key` ("auto", "always" or "never").

    `auto` compiles where `planned_updates` pay for it (None: few). Where they would and it cannot
    be done, a warning says `loss` and why; UserError when `always` cannot be had.
    """
    if choice == "never" or (choice == "auto" and (planned_updates or 0) < WORTH_IT):
        return False
    reason = why_not()
    if reason is None:
        return True
    if choice == "always":
        raise UserError(f"{key}=always, but nothing can be compiled: {reason}; set it to auto")
    warnings.warn(f"{loss}: {reason}", stacklevel=3)
    return False


def compiled_update() -> Update:
    """`step.update` compiled; all agents of one shape and setting share the machine code.

    Before each call torch would check that some hundred facts about the arguments still hold, which
    takes a tenth of a step at two layers of 64. One look at the kind of the arguments stands for
    these checks; arguments besides `Parts` are tensors, float32, or hashable.
    """
    return _of_its_kind


def _of_its_kind(parts: step.Parts, *arguments: Any) -> Tensor:
    others = tuple(a.shape if isinstance(a, Tensor) else a for a in arguments)
    return _compiled(_kind(parts), others, torch.get_num_threads())(parts, *arguments)


def _kind(parts: step.Parts) -> Hashable:
    """What of `parts` is in the machine code; moments have the shapes of the parameters."""
    actor, critic = parts.actor, parts.critic
    moments = parts.actor_moments.first + parts.critic_moments.first
    return type(actor), actor.activation, type(critic), *(tensor.shape for tensor in moments)


@functools.cache
def _compiled(*kind: Hashable) -> Update:
    return machine_code(step.update)


def machine_code(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` compiled without checks of its arguments: only for one kind of them.

    Whoever calls it keeps one for each kind; all that the kind does not say are tensors, whose
    shapes it does say, contiguous and float32.
    """
    import torch._dynamo

    torch._dynamo.config.trace_autograd_ops = True
    # Machine code belongs to a code object, which without checks can have only one: a copy each.
    assert isinstance(function, types.FunctionType)
    copy = types.FunctionType(
        function.__code__.replace(), function.__globals__, argdefs=function.__defaults__
    )
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "cpp_wrapper": True,
        "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
    }
    return torch.compile(copy, fullgraph=True, dynamic=False, options=options)


@contextmanager
def threads_for(hidden: list[int]) -> Iterator[None]:
    """Within the block torch has one thread for narrow networks, and at most two for wide ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if max(hidden, default=0) < _WIDE else min(2, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
