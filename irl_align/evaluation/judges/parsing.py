"""Reading a judge's text: one clear answer, or a failure with its reason. Nothing is guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["FAILED_SCORE", "Parsed", "parse_score", "parse_verdict"]

FAILED_SCORE = -1.0  # what a failed score is in files, as the protocol writes it

_NUMBER = r"([-+]?[0-9]+(?:\.[0-9]+)?)"
_DOUBLE = re.compile(rf"\[\[\s*{_NUMBER}\s*\]\]")
_SINGLE = re.compile(rf"(?<!\[)\[\s*{_NUMBER}\s*\](?!\])")
_VERDICT = re.compile(r"\[\[\s*(A|B|TIE)\s*\]\]", re.IGNORECASE)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Parsed(Generic[Value]):
    """`value`, or None and why: "none" (nothing in the form asked for), "several" (answers that
    contradict each other), "range" (a score outside the scale) or "request" (no text came)."""

    value: Value | None
    failure: str | None = None


def parse_score(text: str, low: float = 1.0, high: float = 10.0) -> Parsed[float]:
    """The score `[[n]]` of a grade; where no double bracket holds a number, `[n]`.

    The same score twice is one score. Numbers outside [low, high] are failures, not clipped.
    """
    for pattern in (_DOUBLE, _SINGLE):
        found = {float(number) for number in pattern.findall(text)}
        if len(found) > 1:
            return Parsed(None, "several")
        if found:
            score = found.pop()
            return Parsed(score) if low <= score <= high else Parsed(None, "range")
    return Parsed(None, "none")


def parse_verdict(text: str) -> Parsed[str]:
    """`[[A]]`, `[[B]]` or `[[TIE]]` -> "a", "b", "tie" (in the order shown to the judge)."""
    found = {verdict.lower() for verdict in _VERDICT.findall(text)}
    if len(found) > 1:
        return Parsed(None, "several")
    return Parsed(found.pop()) if found else Parsed(None, "none")
