"""Language models as judges of answers: log-likelihood, and the reward that DPO leaves implicit.

Both offer the `score` of a reward model, so whatever takes one takes these. An answer's
log-likelihood is the sum over its tokens, the end token included, given the prompt in the model's
own chat template; nothing is divided by the length, so longer answers score lower. Policy and
reference each use their own tokenizer: token ids never cross from one model to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.llm.data.schema import Message
from irl_align.llm.policy.kl import answer_logprobs, answer_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["ImplicitRewardScorer", "LikelihoodScorer"]


class LikelihoodScorer:
    """log p(answer | prompt) in nats, summed over the answer's tokens.

    `max_length`: tokens of prompt and answer (the end is kept), by default as many as the model
    has positions.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        bf16: bool = False,
        max_length: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.bf16 = model, tokenizer, bf16
        positions = getattr(model.config, "max_position_embeddings", None)
        self.limit = min([n for n in (positions, max_length) if n is not None], default=None)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        dtype: str = "float32",
        bf16: bool = False,
        device: str | None = None,
        max_length: int | None = None,
        template: str | None = None,
    ) -> LikelihoodScorer:
        """Load a causal language model; `template`: a Jinja file in place of its chat template.

        Raises UserError when it is no such folder, or has no chat template and none is given.
        """
        from irl_align.llm.config import ModelConfig
        from irl_align.llm.models.loading import load_causal_lm, load_tokenizer

        tokenizer = load_tokenizer(folder, template=template)
        model: Any = load_causal_lm(folder, ModelConfig(path=str(folder)), dtype=dtype)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        return cls(model, tokenizer, bf16=bf16, max_length=max_length)

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        *,
        finished: Sequence[bool] | None = None,
        batch_size: int = 16,
    ) -> list[float]:
        """Log-likelihood of each response, in the order given.

        `finished`: an answer that was cut off is scored without an end token. Texts are batched by
        length; results do not depend on `batch_size` beyond rounding.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts for {len(responses)} responses")
        whole = finished if finished is not None else [True] * len(responses)
        sequences, starts = [], []
        for prompt, response, end in zip(prompts, responses, whole, strict=True):
            sequence, start = answer_tokens(self.tokenizer, prompt, response, finished=end)
            cut = max(0, len(sequence) - self.limit) if self.limit else 0
            sequences.append(sequence[cut:])
            starts.append(max(start - cut, 1))
        logprobs = answer_logprobs(
            self.model,
            sequences,
            starts,
            int(self.tokenizer.pad_token_id),
            bf16=self.bf16,
            batch_size=batch_size,
        )
        return [float(tokens.double().sum()) for tokens in logprobs]

    def too_long(self, prompt: Sequence[Message], response: str) -> bool:
        """Whether prompt and answer are longer than the model reads, so that the start is lost."""
        tokens, _ = answer_tokens(self.tokenizer, prompt, response)
        return self.limit is not None and len(tokens) > self.limit


class ImplicitRewardScorer:
    """beta * log(pi(answer) / pi_ref(answer)): the reward under which DPO's policy is optimal."""

    def __init__(
        self, policy: LikelihoodScorer, reference: LikelihoodScorer, beta: float = 0.1
    ) -> None:
        if beta <= 0:
            raise ValueError(f"beta must be above 0, not {beta}")
        self.policy, self.reference, self.beta = policy, reference, beta

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        *,
        finished: Sequence[bool] | None = None,
        batch_size: int = 16,
    ) -> list[float]:
        """Implicit reward of each response, in the order given; see `LikelihoodScorer.score`."""
        ours, theirs = (
            scorer.score(prompts, responses, finished=finished, batch_size=batch_size)
            for scorer in (self.policy, self.reference)
        )
        return [self.beta * (a - b) for a, b in zip(ours, theirs, strict=True)]

    def too_long(self, prompt: Sequence[Message], response: str) -> bool:
        """Whether either model loses the start of this conversation."""
        return self.policy.too_long(prompt, response) or self.reference.too_long(prompt, response)
