"""Responses of one prompt in one row: the prompt's tokens are computed once.

A prompt's demonstration and its N completions share the prompt. Laid out as

    [ prompt | response 1 | response 2 | ... ]

with positions that restart after the prompt and an attention mask in which a response sees the
prompt and itself only, one row gives exactly the hidden states of N padded rows (to rounding).
With short answers that halves the tokens; nothing about the model changes.

Left out: models without full causal attention (the caller sets `shared_prefix=False`).

Shapes: B rows, L tokens, R responses in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PackedBatch", "common_prefix", "pack", "packed_length"]


@dataclass
class PackedBatch:
    """Inputs of one forward pass. `end_rows`, `end_columns` [R] say where each response ends."""

    input_ids: Tensor  # [B, L]
    position_ids: Tensor  # [B, L]
    attention_mask: Tensor  # [B, L] of 0/1, or [B, 1, L, L] of bool when a prefix is shared
    end_rows: Tensor  # [R]
    end_columns: Tensor  # [R]

    def to(self, device: torch.device | str) -> PackedBatch:
        return PackedBatch(*(t.to(device) for t in self.tensors()))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return (
            self.input_ids,
            self.position_ids,
            self.attention_mask,
            self.end_rows,
            self.end_columns,
        )


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the token prefix that all sequences share, always short of the shortest's end, so
    that every sequence keeps a token of its own to be read at."""
    first = sequences[0]
    limit = min(len(s) for s in sequences) - 1
    for sequence in sequences[1:]:
        at = 0
        while at < limit and sequence[at] == first[at]:
            at += 1
        limit = at
    return max(limit, 0)


def packed_length(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that :func:`pack` needs for one group."""
    prefix = common_prefix(sequences)
    return prefix + sum(len(s) - prefix for s in sequences)


def pack(
    groups: Sequence[Sequence[Sequence[int]]], pad_token_id: int, *, shared_prefix: bool = True
) -> PackedBatch:
    """Batch of groups of tokenised texts; a group's texts share their prompt.

    `groups[b][j]`: token ids of text j of group b, at least one token each. Responses come out in
    the order of the groups.
    """
    if not shared_prefix:
        return _pad([text for group in groups for text in group], pad_token_id)
    prefixes = [common_prefix(group) for group in groups]
    width = max(
        prefix + sum(len(text) - prefix for text in group)
        for group, prefix in zip(groups, prefixes, strict=True)
    )
    rows = len(groups)
    ids = torch.full((rows, width), pad_token_id, dtype=torch.long)
    positions = torch.zeros((rows, width), dtype=torch.long)
    segment = torch.zeros((rows, width), dtype=torch.long)  # 0 prompt, 1.. responses, -1 padding
    ends: list[tuple[int, int]] = []
    for row, (group, prefix) in enumerate(zip(groups, prefixes, strict=True)):
        ids[row, :prefix] = torch.as_tensor(group[0][:prefix])
        positions[row, :prefix] = torch.arange(prefix)
        at = prefix
        for number, text in enumerate(group, start=1):
            stop = at + len(text) - prefix
            ids[row, at:stop] = torch.as_tensor(text[prefix:])
            positions[row, at:stop] = torch.arange(prefix, len(text))
            segment[row, at:stop] = number
            at = stop
            ends.append((row, stop - 1))
        segment[row, at:] = -1
    same = segment[:, :, None] == segment[:, None, :]  # [B, query, key]
    to_prompt = (segment[:, None, :] == 0) & (segment[:, :, None] >= 0)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    # Padding attends to padding before it: never read, but a row with no key at all gives NaN.
    mask = (same | to_prompt) & causal
    end_rows, end_columns = torch.tensor(ends).unbind(1)
    return PackedBatch(ids, positions, mask[:, None], end_rows, end_columns)


def _pad(texts: Sequence[Sequence[int]], pad_token_id: int) -> PackedBatch:
    """One right-padded row a text."""
    width = max(len(t) for t in texts)
    ids = torch.full((len(texts), width), pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.as_tensor(text)
        mask[row, : len(text)] = 1
    ends = torch.tensor([len(t) - 1 for t in texts])
    positions = torch.arange(width).expand(len(texts), width).contiguous()
    return PackedBatch(ids, positions, mask, torch.arange(len(texts)), ends)
