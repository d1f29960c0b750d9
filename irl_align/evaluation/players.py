"""Whoever answers the questions of a benchmark: a policy folder, or a model behind an address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from irl_align.core.errors import UserError
from irl_align.evaluation.judges.chat import CachedChat, open_chat
from irl_align.evaluation.store import ModelRecord, identify_model
from irl_align.llm.config import SamplingConfig
from irl_align.llm.data.schema import Message, Prompt
from irl_align.llm.generation.base import GenerationSettings

if TYPE_CHECKING:
    from irl_align.llm.generation.client import PolicySampler

__all__ = ["Answer", "EndpointPlayer", "Player", "PlayerOptions", "PolicyPlayer", "open_player"]


@dataclass(frozen=True)
class Answer:
    """`text`, or None and the reason in `error`. `finish_reason`: "stop", "length" or "error".

    `passing`: the reason may be gone at the next try (a server that was away).
    """

    text: str | None
    finish_reason: str
    error: str | None = None
    passing: bool = False


@dataclass(frozen=True)
class PlayerOptions:
    """How answers are made. `model_name` to `workers` are for endpoints (some servers refuse seeds;
    without `key_env` no key is sent: the judge's is nobody else's business), the rest for folders.
    """

    max_new_tokens: int = 1024
    model_name: str | None = None
    key_env: str | None = None
    send_seed: bool = True
    workers: int = 8
    backend: str = "auto"
    dtype: str = "bfloat16"
    batch_size: int = 32
    max_prompt_tokens: int = 3072
    cpu_kv_cache_gib: int = 1

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "workers", "batch_size", "max_prompt_tokens"):
            if getattr(self, name) < 1:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} is {getattr(self, name)}; it must be at least 1")


class Player(Protocol):
    """`model` and `settings` identify it in results; `description` is shown beside progress."""

    model: ModelRecord
    settings: dict[str, Any]

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float,
        seed: int,
        description: str,
    ) -> list[Answer]: ...

    def close(self) -> None: ...


class PolicyPlayer:
    """A policy's or model's folder, sampled by vLLM or Hugging Face in a process of its own, which
    starts at the first question and stays until `close`."""

    def __init__(self, folder: Path, options: PlayerOptions) -> None:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; give a policy's or model's folder, or a URL"
            )
        # A model behind an address needs none of this, nor the seconds that torch takes to load.
        from irl_align.llm.generation.client import resolve_backend
        from irl_align.llm.policy.artefacts import PolicyRef

        self.policy = PolicyRef.at(folder)
        self.model = identify_model(self.policy.model, shown=str(folder))
        if options.backend == "endpoint":
            raise UserError("backend endpoint: give the URL in place of the folder")
        try:
            self.sampling = resolve_backend(
                SamplingConfig(
                    backend=options.backend,
                    engine="persistent",
                    dtype=options.dtype,
                    batch_size=options.batch_size,
                    max_new_tokens=options.max_new_tokens,
                    max_prompt_tokens=options.max_prompt_tokens,
                    cpu_kv_cache_gib=options.cpu_kv_cache_gib,
                )
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        self.options = options
        self.settings = {
            "backend": self.sampling.backend,
            "dtype": options.dtype,
            "batch_size": options.batch_size,
            "max_new_tokens": options.max_new_tokens,
            "max_prompt_tokens": options.max_prompt_tokens,
        }
        self._sampler: PolicySampler | None = None

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float,
        seed: int,
        description: str,
    ) -> list[Answer]:
        from irl_align.llm.generation.client import PolicySampler

        if self._sampler is None:
            self._sampler = PolicySampler(self.sampling)
        prompts = [Prompt(str(i), tuple(c)) for i, c in enumerate(conversations)]
        settings = GenerationSettings(
            n=1,
            temperature=temperature,
            max_new_tokens=self.options.max_new_tokens,
            max_prompt_tokens=self.options.max_prompt_tokens,
            seed=seed,
        )
        samples, _ = self._sampler.sample(
            self.policy.model, self.policy.probe, prompts, settings, description=description
        )
        return [
            Answer(s.completions[0].text, s.completions[0].finish_reason)
            if s.completions
            else Answer(None, "error", f"too long: {s.skipped}")
            for s in samples
        ]

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None


class EndpointPlayer:
    """A model behind an address; its answers are cached, so an interrupted run repeats nothing."""

    def __init__(self, chat: CachedChat, options: PlayerOptions) -> None:
        self.chat, self.options = chat, options
        self.model = ModelRecord(f"{chat.endpoint.base} {chat.model}")
        self.settings: dict[str, Any] = {
            "backend": "endpoint",
            "max_new_tokens": options.max_new_tokens,
            "send_seed": options.send_seed,
        }

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float,
        seed: int,
        description: str,
    ) -> list[Answer]:
        def one(numbered: tuple[int, Sequence[Message]]) -> Answer:
            number, conversation = numbered
            reply = self.chat.ask(
                conversation,
                temperature=temperature,
                max_tokens=self.options.max_new_tokens,
                seed=seed + number,
                send_seed=self.options.send_seed,
            )
            passing = reply.error is not None and not reply.error.startswith("too long")
            return Answer(reply.text, reply.finish_reason, reply.error, passing)

        return self.chat.map(one, list(enumerate(conversations)), description)

    def close(self) -> None:
        """Nothing is held."""


def open_player(name: str, options: PlayerOptions, cache: Path) -> Player:
    """The player of a folder, or of a URL (http://... or https://...).

    Raises :class:`UserError` when the folder holds no policy or the server cannot be used; no
    model is loaded yet.
    """
    if name.startswith(("http://", "https://")):
        chat = open_chat(
            name,
            options.model_name,
            cache,
            name_flag="--model-name",
            key_env=options.key_env,
            workers=options.workers,
        )
        return EndpointPlayer(chat, options)
    return PolicyPlayer(Path(name), options)
