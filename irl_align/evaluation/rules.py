r"""A reward that is a rule: the answer has the form that was asked for, and is right.

| | format | answer | reward |
|---|---|---|---|
| form right, answer right | +1 | +2 | 3 |
| form right, answer wrong | +1 | -1.5 | -0.5 |
| form right, answer empty or not to be read | +1 | -2 | -1 |
| form wrong, whatever the answer | -1 | -2 | -3 |

(thesis ch. 4; the values of Xie et al. 2025, Logic-RL, arXiv 2502.14768.) The form is one
`<think>...</think>` and behind it one `<answer>...</answer>`; text around them is not looked at.
Answers are compared as mathematics, by `math-verify`: 1/2, 0.5 and \frac{1}{2} are one answer.

A rule can be what a policy is paid (`policy.scores.rules`) and the gold that evaluation holds it
against (`evaluation.hidden_reward=rules:FILE`). With both, a run is judged by what it was paid.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irl_align.core.errors import UserError

__all__ = [
    "RuleReward",
    "RuleScore",
    "answer_in",
    "load_math_verify",
    "read_math",
    "rule_score",
    "same_answer",
]

FORMAT_RIGHT, FORMAT_WRONG = 1.0, -1.0
ANSWER_RIGHT, ANSWER_WRONG, ANSWER_MISSING = 2.0, -1.5, -2.0

_TAG = re.compile(r"</?(?:think|answer)>")
_FORM = ["<think>", "</think>", "<answer>", "</answer>"]
_SECONDS = 5  # an expression that takes longer to read or compare counts as not read


@dataclass(frozen=True)
class RuleScore:
    """What a response gets for its form and for its answer."""

    format: float
    answer: float

    @property
    def total(self) -> float:
        """One of 3, -0.5, -1 and -3."""
        return self.format + self.answer

    @property
    def right(self) -> bool:
        return self.answer == ANSWER_RIGHT


def answer_in(response: str) -> str | None:
    """What stands in the response's `<answer>` element; None where the form is not the right one.

    Each tag once and in order: a second `<answer>`, or one inside the thoughts, is a wrong form.
    """
    tags = list(_TAG.finditer(response))
    if [tag.group() for tag in tags] != _FORM:
        return None
    return response[tags[2].end() : tags[3].start()].strip()


def read_math(text: str) -> list[Any]:
    """The mathematical reading of an answer, as math-verify's list of alternatives; empty when it
    has none. UserError when math-verify is not installed."""
    parse, _ = load_math_verify()
    # Bare LaTeX is no mathematics to the parser, and of words in dollars it would make products.
    words = re.search(r"[A-Za-z]{2}", re.sub(r"\\[A-Za-z]+", "", text))
    marked = "$" in text or "\\boxed" in text
    options = {"fallback_mode": "no_fallback", "parsing_timeout": _timeout()}
    found: list[Any] = [] if words or marked else parse(f"${text}$", **options)
    return found or parse(text, **options)


def same_answer(gold: list[Any], answer: list[Any]) -> bool:
    """Whether two readings by :func:`read_math` are equal; `gold` is the one that is trusted."""
    _, verify = load_math_verify()
    return bool(verify(gold, answer, timeout_seconds=_timeout()))


def rule_score(response: str, gold: list[Any]) -> RuleScore:
    """The response's score against the reading of the right answer; see the module's table."""
    text = answer_in(response)
    if text is None:
        return RuleScore(FORMAT_WRONG, ANSWER_MISSING)
    read = read_math(text) if text else []
    if not read:
        return RuleScore(FORMAT_RIGHT, ANSWER_MISSING)
    return RuleScore(FORMAT_RIGHT, ANSWER_RIGHT if same_answer(gold, read) else ANSWER_WRONG)


class RuleReward:
    """The rule as a reward of (prompt text, response).

    Args:
        answers: the right answer to each prompt, as text; `answer_keys.load_answer_keys` reads
            them. Raises UserError for one that is no mathematics.
        source: where they come from, for messages.
    """

    def __init__(self, answers: Mapping[str, str], source: str = "the answers") -> None:
        self.source = source
        self._gold: dict[str, list[Any]] = {}
        for prompt, answer in answers.items():
            self._gold[_key(prompt)] = read = read_math(answer)
            if not read:
                raise UserError(
                    f"{source}: the answer {answer!r} to {prompt[:60]!r} cannot be read as "
                    "mathematics; write it as a number, an expression or LaTeX"
                )

    def __len__(self) -> int:
        """How many prompts have an answer."""
        return len(self._gold)

    def knows(self, prompt: str) -> bool:
        """Whether there is a right answer to the prompt."""
        return _key(prompt) in self._gold

    def score(self, prompt: str, response: str) -> RuleScore:
        """Form and answer apart. UserError when the prompt has no right answer."""
        gold = self._gold.get(_key(prompt))
        if gold is None:
            raise UserError(f"{self.source} has no answer to {prompt[:60]!r}; add its row")
        return rule_score(response, gold)

    def __call__(self, prompt: str, response: str) -> float:
        return self.score(prompt, response).total


def _key(prompt: str) -> str:
    """Prompts are the same when their words are: readers of files differ in white space."""
    return " ".join(prompt.split())


def _timeout() -> int | None:
    """math-verify's time limit works by a signal, which only the main thread can receive."""
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


def load_math_verify() -> tuple[Any, Any]:
    """math-verify's (parse, verify); a clear error when it is not installed."""
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise UserError(
            "rules compare answers by math-verify: pip install 'irl-align[rules]'"
        ) from error
    return parse, verify
