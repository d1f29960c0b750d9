"""Answers of the policy with everything that an update needs to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Experience", "Rollout", "TokenBatch", "pad_answers", "pad_lower", "pad_rollouts"]


@dataclass(frozen=True)
class Rollout:
    """One sampled answer as token ids.

    Attributes:
        prompt, answer: ids; a finished answer ends with its end token, which counts as a choice of
            the policy like any other.
        finished: it ended itself; False: it was cut off.
        engine_logprobs: of the answer's tokens, by whatever sampled it; None when unknown.
        source: index of the prompt, for whoever scores the text.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    finished: bool
    engine_logprobs: Sequence[float] | None = None
    source: int = 0


@dataclass
class Experience:
    """A rollout as the models saw it before the update. Tensors are [T], T its own length.

    `lower` [P + T, H]: what layers that no step changes make of prompt and answer, if it is kept.
    """

    rollout: Rollout
    score: float  # after scaling and the rule for unfinished answers
    raw_score: float
    logprobs: Tensor
    reference_logprobs: Tensor
    values: Tensor
    lower: Tensor | None = None

    @property
    def length(self) -> int:
        return len(self.rollout.answer)

    @property
    def kl(self) -> float:
        """log pi(y)/pi_ref(y), nats: unbiased for the answer's KL (k1), may be negative."""
        return float((self.logprobs - self.reference_logprobs).double().sum())


@dataclass(frozen=True)
class TokenBatch:
    """Left-padded prompts followed by right-padded answers.

    input_ids, attention_mask, position_ids [B, P + T]; mask [B, T] is 1 on answer tokens. Answers
    start at the same column P for all, so that token t of an answer is read at column P + t - 1.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> TokenBatch:
        return TokenBatch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.position_ids.to(device),
            self.mask.to(device),
        )

    def tensors(self) -> dict[str, Tensor]:
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
            "mask": self.mask,
        }


def pad_rollouts(rollouts: Sequence[Rollout], pad_token_id: int) -> TokenBatch:
    """The rollouts as one batch. Prompts and answers have at least one token each."""
    width = max(len(r.prompt) for r in rollouts)
    length = max(len(r.answer) for r in rollouts)
    ids = torch.full((len(rollouts), width + length), pad_token_id)
    attention = torch.zeros_like(ids)
    mask = torch.zeros((len(rollouts), length))
    for row, rollout in enumerate(rollouts):
        first, end = width - len(rollout.prompt), width + len(rollout.answer)
        ids[row, first:end] = torch.tensor([*rollout.prompt, *rollout.answer])
        attention[row, first:end] = 1
        mask[row, : len(rollout.answer)] = 1
    # Padding in front must not shift positions; behind, nobody reads them.
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    return TokenBatch(ids, attention, positions, mask)


def pad_lower(rows: Sequence[Tensor], batch: TokenBatch) -> Tensor:
    """Hidden states [P_i + T_i, H] of the rollouts of `batch`, where its tokens stand; 0 elsewhere.
    [B, P + T, H]."""
    padded = rows[0].new_zeros(*batch.input_ids.shape, rows[0].shape[1])
    padded[batch.attention_mask > 0] = torch.cat(list(rows))
    return padded


def pad_answers(rows: Sequence[Tensor]) -> Tensor:
    """Rows of different length [T_i], right-padded with 0: [B, T]."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
