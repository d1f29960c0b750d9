"""Pairwise judging: which of two answers is better."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

from irl_align.evaluation.judges.chat import CachedChat
from irl_align.evaluation.judges.grading import judge_record
from irl_align.evaluation.judges.parsing import Parsed, parse_verdict
from irl_align.evaluation.judges.prompts import compare_messages
from irl_align.llm.data.schema import Message

__all__ = ["Comparer", "PairwiseJudge", "Verdict"]

Verdict = Literal["a", "b", "tie"]


class Comparer(Protocol):
    """Anything that says which of two answers to a prompt is better."""

    def compare(self, prompt: Sequence[Message], a: str, b: str) -> Verdict | None:
        """ "a", "b" or "tie"; None when no verdict could be had. `a` is shown first."""
        ...


class PairwiseJudge:
    """A language model as a :class:`Comparer`. `failures` counts why verdicts are missing."""

    def __init__(self, chat: CachedChat, *, temperature: float = 0.0, max_tokens: int = 2048):
        self.chat, self.temperature, self.max_tokens = chat, temperature, max_tokens
        self.failures: Counter[str] = Counter()
        self._lock = threading.Lock()

    def compare(self, prompt: Sequence[Message], a: str, b: str) -> Verdict | None:
        reply = self.chat.ask(
            compare_messages(prompt, a, b),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        parsed: Parsed[str] = (
            Parsed(None, "request") if reply.text is None else parse_verdict(reply.text)
        )
        if parsed.failure is not None:
            with self._lock:
                self.failures[parsed.failure] += 1
        return cast("Verdict | None", parsed.value)

    def record(self) -> dict[str, Any]:
        """Who judged and how, for the results store."""
        return judge_record(self.chat, self.temperature, self.max_tokens)
