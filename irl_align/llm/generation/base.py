"""What every generation backend offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from irl_align.llm.data.schema import Message
from irl_align.llm.generation.samples import Completion

__all__ = ["GenerationSettings", "Generator", "PromptTooLong", "Progress"]

Progress = Callable[[int], None]  # called with the number of prompts that are newly done


@dataclass(frozen=True)
class GenerationSettings:
    """How to sample: `n` completions a prompt of up to `max_new_tokens` tokens each.

    `temperature` 0 is greedy. `seed` makes a call repeatable on the same backend and machine.
    Prompts of more than `max_prompt_tokens` tokens are skipped, never cut. `logprobs`: also tell
    the log probability of each sampled token at this temperature, where the backend can.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    max_prompt_tokens: int = 1024
    seed: int = 0
    logprobs: bool = False


class PromptTooLong(str):
    """Takes the place of a prompt's completions; the text says how long it was."""


class Generator(Protocol):
    """One policy at a time, held by one backend."""

    def load(self, model: Path) -> None:
        """Take the weights of a model folder; replaces what was loaded before."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[list[Completion] | PromptTooLong]:
        """Completions of each prompt, in the order given; text is stripped of outer white space."""
        ...

    def logprobs(self, token_ids: Sequence[int]) -> list[float]:
        """log p(token_i | tokens before it) for i >= 1: len(token_ids) - 1 numbers, natural log."""
        ...

    def close(self) -> None: ...
