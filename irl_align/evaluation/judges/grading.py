"""Single-answer grading: a score from 1 to 10 for the last turn of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from irl_align.evaluation.judges.chat import CachedChat
from irl_align.evaluation.judges.parsing import Parsed, parse_score
from irl_align.evaluation.judges.prompts import PROMPTS_HASH, grade_messages

__all__ = ["Grade", "SingleGrader"]


@dataclass(frozen=True)
class Grade:
    """`score` in [1, 10], or None and why in `failure` (see `Parsed`); `text` as the judge wrote
    it, for the per-item file."""

    score: float | None
    failure: str | None
    text: str | None


class SingleGrader:
    """Grades by a judge at `temperature`, in at most `max_tokens` tokens."""

    def __init__(self, chat: CachedChat, *, temperature: float = 0.0, max_tokens: int = 2048):
        self.chat, self.temperature, self.max_tokens = chat, temperature, max_tokens

    def grade(
        self, turns: Sequence[tuple[str, str]], references: Sequence[str] | None = None
    ) -> Grade:
        """Grade the last of one or two (question, answer) turns; see `grade_messages`."""
        reply = self.chat.ask(
            grade_messages(turns, references),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        if reply.text is None:
            return Grade(None, "request", reply.error)
        parsed: Parsed[float] = parse_score(reply.text)
        return Grade(parsed.value, parsed.failure, reply.text)

    def record(self) -> dict[str, Any]:
        """Who judged and how, for the results store."""
        return judge_record(self.chat, self.temperature, self.max_tokens)


def judge_record(chat: CachedChat, temperature: float, max_tokens: int) -> dict[str, Any]:
    """What identifies a judge in a result; no key is in it."""
    return {
        "endpoint": chat.endpoint.base,
        "model": chat.model,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "prompts": PROMPTS_HASH,
    }
