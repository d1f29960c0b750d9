"""Policy and value model behind one forward pass, so that DDP and ZeRO see one module.

Two houses for the four models of PPO. :class:`SeparateModels` holds three whole ones (the reward
model is the scorer's). :class:`~irl_align.llm.ppo.shared.SharedModels` holds one frozen base with
an adapter for each role, the reference being the base with adapters off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from irl_align.llm.ppo.experience import TokenBatch

__all__ = ["ActorCritic", "SeparateModels", "answer_logprobs", "answer_values", "without_dropout"]


def _start(batch: TokenBatch, lower: Tensor | None) -> dict[str, Tensor]:
    """What a model starts from: token ids, or what the layers below it made of them."""
    return {"input_ids": batch.input_ids} if lower is None else {"inputs_embeds": lower}


def answer_logprobs(
    model: Any, batch: TokenBatch, temperature: float, lower: Tensor | None = None
) -> Tensor:
    """log pi(y_t | x, y_<t) of the answers' tokens under the logits / temperature; [B, T], float32.
    What stands behind an answer is whatever the padding gives. `lower`: see `halves`."""
    length = batch.mask.shape[1]
    logits = model(
        **_start(batch, lower),
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
        logits_to_keep=length + 1,
    ).logits[:, -length - 1 : -1]  # [B, T, V]; a model may ignore logits_to_keep
    logits = logits.float() / temperature
    tokens = batch.input_ids[:, -length:, None]
    chosen: Tensor = logits.gather(-1, tokens).squeeze(-1) - logits.logsumexp(-1)
    return chosen


def answer_values(
    body: Any, head: nn.Module, batch: TokenBatch, lower: Tensor | None = None
) -> Tensor:
    """Value of the state in which each answer token is chosen: read one column before it; [B, T],
    float32. `lower`: see `halves`."""
    length = batch.mask.shape[1]
    hidden = body(
        **_start(batch, lower),
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state[:, -length - 1 : -1]  # [B, T, H]
    values: Tensor = head(hidden.to(next(head.parameters()).dtype)).squeeze(-1)
    return values.float()


def without_dropout(model: nn.Module) -> None:
    """Ratios pi / pi_old must come from the update alone."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


class ActorCritic(nn.Module, ABC):
    """What the trainer needs of the models.

    Args:
        temperature: of sampling. Policy and reference are both taken at it: the policy that is
            improved is the one that answers.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    @abstractmethod
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        lower: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(log probabilities, values) of the answers' tokens, both [B, T]; a :class:`TokenBatch`'s
        tensors, and what :meth:`lower` made of it, if that is known."""

    @abstractmethod
    def reference_logprobs(self, batch: TokenBatch, lower: Tensor | None = None) -> Tensor:
        """As the policy's log probabilities, by pi_ref; [B, T]."""

    def lower(self, batch: TokenBatch) -> Tensor | None:
        """Hidden states [B, P + T, H] that all roles have in common and no step changes; None where
        there are none."""
        return None

    @abstractmethod
    def policy_model(self) -> Any:
        """The language model that is to be saved (a PeftModel or a whole one)."""

    @contextmanager
    def answering(self) -> Iterator[Any]:
        """The policy as a model that generates."""
        yield self.policy_model()


class SeparateModels(ActorCritic):
    """Whole models for policy, value and reference. The value model is a sequence classifier: body
    and head of a reward model."""

    def __init__(
        self,
        policy: nn.Module,
        value: Any,
        reference: nn.Module,
        *,
        temperature: float,
        value_shift: float = 0.0,
        value_scale: float = 1.0,
    ) -> None:
        super().__init__(temperature)
        self.policy, self.value, self.reference = policy, value, reference
        self.config = getattr(policy, "config", None)  # DeepSpeed sizes its buckets by it
        self.value_shift, self.value_scale = value_shift, value_scale
        self.reference.requires_grad_(False)
        without_dropout(self)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        lower: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        batch = TokenBatch(input_ids, attention_mask, position_ids, mask)
        raw = answer_values(self.value.base_model, self.value.score, batch)
        values = (raw - self.value_shift) / self.value_scale
        return answer_logprobs(self.policy, batch, self.temperature), values

    @torch.no_grad()
    def reference_logprobs(self, batch: TokenBatch, lower: Tensor | None = None) -> Tensor:
        return answer_logprobs(self.reference, batch, self.temperature)

    def policy_model(self) -> Any:
        return self.policy
