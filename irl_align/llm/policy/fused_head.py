"""Score completions only: keep TRL's fused output layer off the prompt tokens on a CPU.

The fused layer leaves out positions that carry no label where Triton runs, and scores every
position elsewhere, because accelerators that compile want fixed shapes. Eager CPU code does not,
and there the output layer is half of a DPO step. Losses and gradients are the same either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["completions_only"]


@contextmanager
def completions_only(device: torch.device) -> Iterator[None]:
    """On a CPU, TRL's fused layer projects labelled positions only while this is open."""
    from trl.trainer import utils

    original = getattr(utils, "_use_triton", None)
    if device.type != "cpu" or original is None:
        yield
        return
    # The kernel asks for itself, so this decides nothing but which positions it is given.
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = original
