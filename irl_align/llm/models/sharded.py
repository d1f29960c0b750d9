"""Whole weights where DeepSpeed ZeRO-3 holds shards; nothing to do elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from irl_align.llm.distributed import world

__all__ = ["gathered", "whole_model"]

Model = TypeVar("Model", bound=torch.nn.Module)


@contextlib.contextmanager
def gathered(parameters: Iterable[torch.nn.Parameter], *, write: bool = False) -> Iterator[None]:
    """Whole parameters inside the block under DeepSpeed ZeRO-3; nothing to do otherwise.

    Every process enters it. `write`: what rank 0 makes of them is kept, everywhere.
    """
    sharded = [p for p in parameters if hasattr(p, "ds_id")]
    if not sharded:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0 if write else None):
        yield


def whole_model(trained: Model, build: Callable[[], Model]) -> Model:
    """`trained` with all its weights in place on rank 0; every process calls it.

    Under ZeRO-3 the trained modules hold shards, and hooks that wait for all processes. There
    rank 0 gets a model built anew (`build` gives the one that training started from) and the
    weights, gathered one at a time so that no GPU ever holds them all; other ranks get `trained`.
    Models loaded after this call are whole again.
    """
    if not any(hasattr(p, "ds_id") for p in trained.parameters()):
        return trained
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in trained.named_parameters():
        with gathered([parameter]):
            if world().is_main:
                weights[name] = parameter.detach().cpu().clone()
    if not world().is_main:
        return trained
    whole = build()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            parameter.copy_(weights.pop(name))
    if weights:
        raise RuntimeError(f"weights without a place in the whole model: {sorted(weights)[:3]}")
    return whole
