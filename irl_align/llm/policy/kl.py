"""KL(pi || pi_ref) of answers sampled from pi.

Both policies are taken at the sampling temperature, because the estimates below are right only for
answers drawn from the very distribution that is compared.

Per token, with logratio = log pi - log pi_ref on the sampled token, k3 = exp(-logratio) - 1 +
logratio is unbiased for the KL of the next-token distributions and never negative; its sum over an
answer is unbiased for the answer's KL. k1 = logratio is unbiased as well and may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from irl_align.llm.chat import render, render_prompt, response_tokens
from irl_align.llm.data.schema import Message
from irl_align.llm.policy.artefacts import PolicyRef

__all__ = ["answer_logprobs", "kl_estimates"]


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

    `temperature` divides the logits; 0 (greedy) has no distribution and counts as 1.
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
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        # [B, L-1]: logprob of token t + 1 is read at position t
        picked = logits[:, :-1].float() / (temperature or 1.0)
        logprobs = picked.gather(-1, ids[:, 1:, None]).squeeze(-1) - picked.logsumexp(-1)
        for row, i in enumerate(chunk):
            found[i] = logprobs[row, starts[i] - 1 : len(sequences[i]) - 1].cpu()
    return found


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
    from irl_align.llm.models import load_causal_lm, load_tokenizer

    tokenizer = load_tokenizer(policy.model)
    sequences, starts = [], []
    for prompt, response, whole in zip(prompts, responses, finished, strict=True):
        sequence = response_tokens(tokenizer, render(tokenizer, prompt, response, finished=whole))
        head = response_tokens(tokenizer, render_prompt(tokenizer, prompt))
        at = 0
        while at < min(len(head), len(sequence) - 1) and head[at] == sequence[at]:
            at += 1
        starts.append(max(at, 1))
        sequences.append(_up_to_end(sequence, starts[-1], tokenizer.eos_token_id))
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
