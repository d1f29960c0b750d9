"""One frozen base, an adapter for each role: four models at the memory of one.

Roles: "default" is the policy's adapter (PEFT saves that name at the folder's root), "value" the
value model's, "reward" the reward model's (frozen); the reference is the base with adapters off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from irl_align.llm.models.low_rank import LowRankUpdate
from irl_align.llm.ppo.actor_critic import (
    ActorCritic,
    answer_logprobs,
    answer_values,
    without_dropout,
)
from irl_align.llm.ppo.experience import TokenBatch
from irl_align.llm.ppo.halves import LowerHalf

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["POLICY", "REWARD", "VALUE", "SharedModels", "add_update"]

POLICY, VALUE, REWARD = "default", "value", "reward"


class SharedModels(ActorCritic):
    """See the module.

    Args:
        lm: a language model under the adapters "default" and "value", and "reward" where `score`
            is given.
        value_head: hidden state [H] -> value.
        score: the reward model's head [1, H]; None when that model does not live here.
    """

    def __init__(
        self,
        lm: PeftModel,
        value_head: nn.Linear,
        *,
        temperature: float,
        score: Tensor | None = None,
    ) -> None:
        super().__init__(temperature)
        self.lm: Any = lm
        self.value_head = value_head
        self.config = lm.get_base_model().config
        self.score_head: nn.Linear | None = None
        if score is not None:
            head = nn.Linear(score.shape[1], 1, bias=False)
            head.weight.data.copy_(score)
            self.score_head = head.requires_grad_(False)
        without_dropout(self)
        self._trained = [
            parameter
            for name, parameter in self.lm.named_parameters()
            if f".{POLICY}." in name or f".{VALUE}." in name
        ]
        self._as(POLICY)
        self.lower_half = LowerHalf.below(
            self.body, [n for n, _ in self.lm.named_parameters() if ".lora_" in n]
        )

    def _as(self, role: str | None) -> None:
        if role is None:
            self.lm.base_model.disable_adapter_layers()
        else:
            self.lm.base_model.enable_adapter_layers()
            self.lm.set_adapter(role)
        # PEFT trains whichever adapter is in use and freezes the others; here two are trained at
        # once, and a frozen leaf would lose the gradient of a graph that it is already part of.
        for parameter in self._trained:
            parameter.requires_grad_(True)
        for name, parameter in self.lm.named_parameters():
            if f".{REWARD}." in name:
                parameter.requires_grad_(False)

    @contextmanager
    def playing(self, role: str | None) -> Iterator[Any]:
        """The language model with one adapter in use, or with none."""
        self._as(role)
        try:
            yield self.lm
        finally:
            self._as(POLICY)

    def lower(self, batch: TokenBatch) -> Tensor | None:
        return self.lower_half(batch) if self.lower_half is not None else None

    @contextmanager
    def _from(self, lower: Tensor | None) -> Iterator[None]:
        """The layers that are left to compute."""
        if lower is None or self.lower_half is None:
            yield
        else:
            with self.lower_half.upper():
                yield

    @property
    def body(self) -> Any:
        """The language model without its output layer, under whichever adapter is in use."""
        return self.lm.get_base_model().base_model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        lower: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        batch = TokenBatch(input_ids, attention_mask, position_ids, mask)
        lower = self.lower(batch) if lower is None else lower
        with self._from(lower):
            with self.playing(VALUE):
                values = answer_values(self.body, self.value_head, batch, lower)
            return answer_logprobs(self.lm, batch, self.temperature, lower), values

    @torch.no_grad()
    def reference_logprobs(self, batch: TokenBatch, lower: Tensor | None = None) -> Tensor:
        lower = self.lower(batch) if lower is None else lower
        with self.playing(None), self._from(lower):
            return answer_logprobs(self.lm, batch, self.temperature, lower)

    def policy_model(self) -> Any:
        return self.lm

    def classifier(self) -> nn.Module:
        """The reward model as the scorer wants one: `base_model`, `score`, `config`."""
        if self.score_head is None:
            raise ValueError("these models hold no reward model")
        return _AdapterClassifier(self)


class _AdapterClassifier(nn.Module):
    """A sequence classifier made of the shared base, the reward's adapter and its head."""

    def __init__(self, models: SharedModels) -> None:
        super().__init__()
        self._models = [models]  # in a list: its weights are not this module's to train or move
        self.config = SimpleNamespace(
            max_position_embeddings=getattr(models.config, "max_position_embeddings", None),
            pad_token_id=getattr(models.config, "pad_token_id", None),
        )
        assert models.score_head is not None
        self.score = models.score_head

    def base_model(self, **inputs: Any) -> Any:
        models = self._models[0]
        with models.playing(REWARD):
            found = models.body(**inputs)
        found.last_hidden_state = found.last_hidden_state.to(self.score.weight.dtype)
        return found


def add_update(lm: PeftModel, update: LowRankUpdate, role: str) -> None:
    """Put `update` (names as in the language model's own state) on `lm` as the adapter `role`."""
    from peft import LoraConfig

    if not update.down:
        raise ValueError("an update without a layer")
    lm.add_adapter(
        role,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=update.rank,
            lora_alpha=update.rank,
            target_modules=sorted(update.down),
        ),
    )
    layers: dict[str, Any] = dict(lm.get_base_model().named_modules())
    with torch.no_grad():
        for name in update.down:
            layer = layers[name]
            layer.lora_A[role].weight.copy_(update.down[name])
            layer.lora_B[role].weight.copy_(update.up[name])
