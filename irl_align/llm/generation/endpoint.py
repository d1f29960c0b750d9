"""Completions from any OpenAI-compatible chat endpoint (vLLM's server, llama.cpp, a vendor).

For policies that live elsewhere: nothing can be loaded into them, and they give no token ids, so
the logprob probe does not apply and lengths are the server's own counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.llm.config import SamplingConfig
from irl_align.llm.data.schema import Message
from irl_align.llm.generation.base import GenerationSettings, Progress, PromptTooLong
from irl_align.llm.generation.chat_endpoint import ChatEndpoint, EndpointError
from irl_align.llm.generation.samples import Completion

__all__ = ["EndpointGenerator"]


class EndpointGenerator:
    """`sampling.batch_size` requests at a time to `sampling.endpoint` + /chat/completions."""

    def __init__(self, sampling: SamplingConfig, *, timeout: float = 600.0) -> None:
        if not sampling.endpoint:
            raise UserError("sampling.backend=endpoint needs sampling.endpoint (a base URL)")
        self.sampling = sampling
        self.server = ChatEndpoint(
            sampling.endpoint, key_env=sampling.endpoint_key_env, timeout=timeout
        )

    def load(self, model: Path) -> None:
        """The endpoint keeps the model that it has."""

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[list[Completion] | PromptTooLong]:
        def one(job: tuple[int, Sequence[Message]]) -> list[Completion] | PromptTooLong:
            number, prompt = job
            found = self._ask(prompt, settings, settings.seed + number)
            if progress:
                progress(1)
            return found

        with ThreadPoolExecutor(max_workers=max(1, self.sampling.batch_size)) as pool:
            return list(pool.map(one, enumerate(prompts)))

    def _ask(
        self, prompt: Sequence[Message], settings: GenerationSettings, seed: int
    ) -> list[Completion] | PromptTooLong:
        body = {
            "model": self.sampling.endpoint_model or "default",
            "messages": [dict(m) for m in prompt],
            "n": settings.n,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
            "seed": seed,
        }
        completions: list[Completion] = []
        # Some servers give one choice whatever n asks for: ask until there are enough.
        while len(completions) < settings.n:
            body["n"] = settings.n - len(completions)
            answer = self._post(body)
            if isinstance(answer, PromptTooLong):
                return answer
            completions += self._read(answer)
            body["seed"] = seed + 7919 * len(completions)
        return completions[: settings.n]

    def _read(self, answer: Any) -> list[Completion]:
        """The completions of one answer; UserError when it does not look like one."""
        try:
            choices = list(answer["choices"])
            counted = (answer.get("usage") or {}).get("completion_tokens", 0) // len(choices)
            texts = [(c["message"]["content"] or "").strip() for c in choices]
            reasons = ["stop" if c.get("finish_reason") == "stop" else "length" for c in choices]
        except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise UserError(
                f"{self.server.url} gave no chat completions: {str(answer)[:200]}; is it the base "
                "URL of an OpenAI-compatible server?"
            ) from error
        return [Completion(t, r, counted) for t, r in zip(texts, reasons, strict=True)]

    def _post(self, body: dict[str, Any]) -> Any:
        try:
            return self.server.post(body)
        except EndpointError as error:
            if error.trouble == "too_long":
                return PromptTooLong(error)
            raise

    def logprobs(self, token_ids: Sequence[int]) -> list[float]:
        raise UserError("an endpoint gives no log probabilities of given tokens")

    def close(self) -> None:
        """Nothing is held."""
