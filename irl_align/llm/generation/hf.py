"""Hugging Face `generate`: slower than an engine, but runs wherever the model does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.core.seeding import seed_everything
from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.config import ModelConfig, SamplingConfig
from irl_align.llm.data.schema import Message
from irl_align.llm.generation.base import GenerationSettings, Progress, PromptTooLong
from irl_align.llm.generation.samples import Completion
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["HfGenerator", "stop_token_ids", "token_logprobs"]


def stop_token_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Every id that ends an answer: the tokenizer's EOS and the generation config's."""
    ids = {tokenizer.eos_token_id}
    configured = getattr(generation_config, "eos_token_id", None)
    ids |= set(configured if isinstance(configured, list) else [configured])
    return sorted(i for i in ids if i is not None)


@torch.no_grad()
def token_logprobs(model: PreTrainedModel, token_ids: Sequence[int]) -> list[float]:
    """log p(token_i | tokens before) for i >= 1, in float32 from the model's own logits."""
    ids = torch.tensor([list(token_ids)], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    chosen = logits.log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1)
    return [float(x) for x in chosen]


class HfGenerator:
    """Left-padded batches of prompts of like length; `sampling.batch_size` sequences at a time."""

    def __init__(self, sampling: SamplingConfig) -> None:
        self.sampling = sampling
        self.model: Any = None

    def load(self, model: Path) -> None:
        self.model = None
        config = ModelConfig(path=str(model))
        loaded: Any = load_causal_lm(model, config, dtype=self.sampling.dtype)
        place = "cuda" if torch.cuda.is_available() else "cpu"
        self.hold(loaded.to(place).eval(), load_tokenizer(model))

    def hold(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        """Generate with a model that is in memory already, where and as it is."""
        self.model, self.tokenizer = model, tokenizer

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[list[Completion] | PromptTooLong]:
        assert self.model is not None, "load a model first"
        seed_everything(settings.seed)
        tokens = [
            response_tokens(self.tokenizer, render_prompt(self.tokenizer, p)) for p in prompts
        ]
        results: list[list[Completion] | PromptTooLong] = [
            PromptTooLong(f"{len(t)} tokens, over max_prompt_tokens={settings.max_prompt_tokens}")
            for t in tokens
        ]
        order = [i for i in range(len(prompts)) if len(tokens[i]) <= settings.max_prompt_tokens]
        order.sort(key=lambda i: len(tokens[i]), reverse=True)
        step = max(1, self.sampling.batch_size // settings.n)
        stops = stop_token_ids(self.tokenizer, self.model.generation_config)
        for start in range(0, len(order), step):
            chunk = order[start : start + step]
            for index, completions in zip(
                chunk, self._batch([tokens[i] for i in chunk], settings, stops), strict=True
            ):
                results[index] = completions
            if progress:
                progress(len(chunk))
        return results

    @torch.no_grad()
    def _batch(
        self, tokens: list[list[int]], settings: GenerationSettings, stops: list[int]
    ) -> list[list[Completion]]:
        assert self.model is not None
        width = max(map(len, tokens))
        pad = int(self.tokenizer.pad_token_id)
        ids = torch.full((len(tokens), width), pad)
        mask = torch.zeros((len(tokens), width), dtype=torch.long)
        for row, prompt in enumerate(tokens):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        greedy = settings.temperature == 0
        chosen: dict[str, Any] = {"do_sample": not greedy, "top_k": 0}
        if not greedy:
            chosen |= {"temperature": settings.temperature, "top_p": settings.top_p}
        else:
            chosen |= {"temperature": None, "top_p": None, "top_k": None}
        # Greedy answers are all the same: compute one and repeat it.
        n = 1 if greedy else settings.n
        out = self.model.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            num_return_sequences=n,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=stops,
            pad_token_id=pad,
            **chosen,
        )
        answers = out[:, width:].tolist()
        found = [
            [self._completion(answers[row * n + k], stops) for k in range(n)]
            for row in range(len(tokens))
        ]
        return [c * settings.n for c in found] if greedy else found

    def _completion(self, ids: list[int], stops: list[int]) -> Completion:
        end = next((i for i, token in enumerate(ids) if token in stops), None)
        kept = ids if end is None else ids[: end + 1]
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip()
        return Completion(text, "length" if end is None else "stop", len(kept), token_ids=kept)

    def logprobs(self, token_ids: Sequence[int]) -> list[float]:
        assert self.model is not None, "load a model first"
        return token_logprobs(self.model, token_ids)

    def close(self) -> None:
        self.model = None
