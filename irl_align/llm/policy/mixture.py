"""The geometric mixture of two policies, token by token, and answers drawn from it.

    pi'(token | before) = pi(token | before)^(1 - m) pi_ref(token | before)^m / Z(before)

Nash-MD's opponent (Munos et al. 2024, arXiv 2312.00886): m = 0 is the policy itself, m = 1 the
reference. With answers of several tokens the product of these is not the normalised mixture of the
two distributions over answers, which nobody can draw from; it is what is played in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["mixture_logprobs", "sample_mixture"]

# A language model's forward pass, with Hugging Face's keywords: an object with logits and cache.
Forward = Callable[..., Any]


def mixture_logprobs(
    policy: Tensor, reference: Tensor, mixture: float, temperature: float = 1.0
) -> Tensor:
    """log pi' from the logits of both, all [..., V]; `temperature` divides both."""
    ours = (policy.float() / temperature).log_softmax(-1)
    theirs = (reference.float() / temperature).log_softmax(-1)
    return ((1 - mixture) * ours + mixture * theirs).log_softmax(-1)


@torch.no_grad()
def sample_mixture(
    policy: Forward,
    reference: Forward,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    mixture: float,
    max_new_tokens: int,
    eos_token_id: int,
    pad_token_id: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Answers [B, T] to left-padded prompts [B, P]; behind an answer's end token stands padding.

    T is at most `max_new_tokens`, and less when all answers end before.
    """
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    tokens, mask = input_ids, attention_mask
    caches: list[Any] = [None, None]
    ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    answers: list[Tensor] = []
    for _ in range(max_new_tokens):
        logits = []
        for i, player in enumerate((policy, reference)):
            seen = player(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=position_ids,
                past_key_values=caches[i],
                use_cache=True,
                logits_to_keep=1,
            )
            if seen.past_key_values is None:
                raise RuntimeError("a player keeps no cache, and would be shown one token alone")
            caches[i] = seen.past_key_values
            logits.append(seen.logits[:, -1])
        chances = mixture_logprobs(logits[0], logits[1], mixture, temperature).exp()
        drawn = torch.multinomial(chances, 1, generator=generator)
        drawn = drawn.masked_fill(ended[:, None], pad_token_id)
        answers.append(drawn)
        ended = ended | (drawn[:, 0] == eos_token_id)
        if bool(ended.all()):
            break
        tokens = drawn
        position_ids = position_ids[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(drawn)], dim=1)
    return torch.cat(answers, dim=1)
