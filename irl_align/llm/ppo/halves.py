"""A decoder in two halves: the layers below every adapter, which are the same in all roles and
which no step changes, and the rest.

What the lower half makes of a text is computed once, for policy, value model and reference
together, and kept for every pass of learning over it. The upper half of a role starts from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from irl_align.llm.ppo.experience import TokenBatch

__all__ = ["LowerHalf"]

_LAYER = re.compile(r"\.layers\.(\d+)\.")
_NORMS = ("norm", "final_layer_norm")  # Llama's name for it and its like; GPT-NeoX's


class LowerHalf:
    """The first `depth` layers of `body`: of its `layers`, which the module `norm` follows."""

    def __init__(self, body: Any, depth: int, norm: str) -> None:
        self.body, self.depth, self.norm = body, depth, norm

    @classmethod
    def below(cls, body: Any, adapted: list[str]) -> LowerHalf | None:
        """The layers below the first with a weight in `adapted` (names of adapters' weights); None
        where there are none, or this kind of body cannot be cut: that is tried, not guessed."""
        found = [_LAYER.search(f".{name}") for name in adapted]
        layers = getattr(body, "layers", None)
        if not found or None in found or not isinstance(layers, nn.ModuleList):
            return None
        depth = min(int(match.group(1)) for match in found if match is not None)
        norm = next((name for name in _NORMS if hasattr(body, name)), None)
        if depth == 0 or norm is None:
            return None
        half = cls(body, depth, norm)
        return half if half._fits() else None

    @torch.no_grad()
    def __call__(self, batch: TokenBatch) -> Tensor:
        """Hidden states [B, P + T, H] behind the lower layers; of padding, whatever comes out."""
        layers, norm = self.body.layers, getattr(self.body, self.norm)
        try:
            self.body.layers = layers[: self.depth]
            setattr(self.body, self.norm, nn.Identity())
            found: Tensor = self.body(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
        finally:
            self.body.layers = layers
            setattr(self.body, self.norm, norm)
        return found

    @contextmanager
    def upper(self) -> Iterator[None]:
        """The body without these layers: it wants their hidden states as `inputs_embeds`."""
        layers = self.body.layers
        try:
            self.body.layers = layers[self.depth :]
            yield
        finally:
            self.body.layers = layers

    @torch.no_grad()
    def _fits(self) -> bool:
        """Whether both halves give what the whole gives; a body that scales its embeddings, or lets
        a layer look at an earlier one, does not."""
        device = next(self.body.parameters()).device
        ids = torch.arange(2, 10, device=device)[None]
        mask = torch.ones_like(ids)
        batch = TokenBatch(ids, mask, mask.cumsum(1) - 1, mask)
        rest = {"attention_mask": mask, "position_ids": batch.position_ids, "use_cache": False}
        training = self.body.training
        self.body.eval()
        try:
            whole = self.body(input_ids=ids, **rest).last_hidden_state
            lower = self(batch)
            with self.upper():
                joined = self.body(inputs_embeds=lower, **rest).last_hidden_state
        except (TypeError, ValueError, IndexError, AttributeError, RuntimeError):
            return False
        finally:
            self.body.train(training)
        return bool(torch.allclose(whole, joined, atol=1e-5, rtol=1e-4))
