"""KL(pi || pi_ref) of answers sampled from pi.

Both policies are taken at the sampling temperature, because the estimates below are right only for
answers drawn from the very distribution that is compared.

Per token, with logratio = log pi - log pi_ref on the sampled token, k3 = exp(-logratio) - 1 +
logratio is unbiased for the KL of the next-token distributions and never negative; its sum over an
answer is unbiased for the answer's KL. k1 = logratio is unbiased as well and may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from irl_align.llm.chat import render, render_prompt, response_tokens
from irl_align.llm.data.schema import Message
from irl_align.llm.policy.artefacts import PolicyRef

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["answer_logprobs", "answer_tokens", "kl_estimates"]


@torch.no_grad()
def answer_logprobs(
    model: torch.nn.Module,
    sequences: Sequence[Sequence[int]],
    starts: Sequence[int],
    pad_token_id: int,
    *,
    bf16: bool = False,
    batch_size: int = 16,
    temperature: float = 1.0,
) -> list[Tensor]:
    """log p of the tokens from `starts[i]` on, for each sequence; float32, natural log.

    `temperature` divides the logits; 0 (greedy) has no distribution and counts as 1. Logits are
    computed from the first position on that any text of a batch needs, and read one text at a
    time: a large vocabulary costs more memory than all else.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    found: list[Tensor] = [torch.empty(0)] * len(sequences)
    device = next(model.parameters()).device
    for begin in range(0, len(order), batch_size):
        chunk = order[begin : begin + batch_size]
        width = max(len(sequences[i]) for i in chunk)
        ids = torch.full((len(chunk), width), pad_token_id)
        mask = torch.zeros((len(chunk), width), dtype=torch.long)
        for row, i in enumerate(chunk):
            ids[row, : len(sequences[i])] = torch.tensor(list(sequences[i]))
            mask[row, : len(sequences[i])] = 1
        ids, mask = ids.to(device), mask.to(device)
        first = min(starts[i] for i in chunk) - 1  # token t + 1 is read at position t
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = model(
                input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=width - first
            ).logits  # [B, width - first, V]
        for row, i in enumerate(chunk):
            start, stop = starts[i], len(sequences[i])
            picked = logits[row, start - 1 - first : stop - 1 - first].float()
            picked = picked / (temperature or 1.0)
            tokens = ids[row, start:stop, None]
            found[i] = (picked.gather(-1, tokens).squeeze(-1) - picked.logsumexp(-1)).cpu()
    return found


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[Message],
    response: str,
    *,
    finished: bool = True,
) -> tuple[list[int], int]:
    """Token ids of prompt and answer by the tokenizer's own template, and where the answer begins.

    A finished answer ends with its end token. The answer begins at 1 or later: its first token
    needs one before it.
    """
    sequence = response_tokens(tokenizer, render(tokenizer, prompt, response, finished=finished))
    head = response_tokens(tokenizer, render_prompt(tokenizer, prompt))
    start = 0
    while start < min(len(head), len(sequence) - 1) and head[start] == sequence[start]:
        start += 1
    start = max(start, 1)
    return _up_to_end(sequence, start, tokenizer.eos_token_id), start


def kl_estimates(
    policy: PolicyRef,
    reference: PolicyRef,
    prompts: Sequence[Sequence[Message]],
    responses: Sequence[str],
    finished: Sequence[bool],
    *,
    temperature: float = 1.0,
) -> dict[str, float]:
    """`eval/kl` (k3) and `eval/kl_k1`, nats per answer, over answers sampled from `policy` at
    `temperature`."""
    from irl_align.llm.config import ModelConfig
    from irl_align.llm.models.loading import load_causal_lm, load_tokenizer

    tokenizer = load_tokenizer(policy.model)
    sequences, starts = [], []
    for prompt, response, whole in zip(prompts, responses, finished, strict=True):
        sequence, start = answer_tokens(tokenizer, prompt, response, finished=whole)
        sequences.append(sequence)
        starts.append(start)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    logprobs = []
    for ref in (policy, reference):
        model: Any = load_causal_lm(ref.model, ModelConfig(path=str(ref.model)), dtype="bfloat16")
        model.to(place).eval()
        logprobs.append(
            answer_logprobs(
                model,
                sequences,
                starts,
                int(tokenizer.pad_token_id),
                temperature=temperature,
            )
        )
        del model
    ratios = [a - b for a, b in zip(*logprobs, strict=True)]
    k3 = torch.stack([(torch.exp(-r) - 1 + r).sum() for r in ratios])
    k1 = torch.stack([r.sum() for r in ratios])
    return {"eval/kl": k3.mean().item(), "eval/kl_k1": k1.mean().item()}


def _up_to_end(sequence: list[int], start: int, eos: int | None) -> list[int]:
    """`sequence` up to the answer's end token: what a template writes behind it (ChatML's line
    break) was never sampled."""
    if eos not in sequence[start:]:
        return sequence
    return sequence[: sequence.index(eos, start) + 1]
