"""What the rest of the library sees of a data set: three record types and nothing about files.

A conversation is a tuple of messages. A *prompt* is a conversation whose last turn is the user's;
a *response* is the text of the assistant's turn that follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    """One turn of a conversation, in the form that chat templates take."""

    role: Role
    content: str


@dataclass(frozen=True)
class Demonstration:
    """A prompt with the response that somebody we want to imitate gave."""

    id: str
    prompt: tuple[Message, ...]
    response: str


@dataclass(frozen=True)
class Preference:
    """A prompt with two responses of which a judge preferred `chosen`.

    `subset` names the part of a benchmark that the pair belongs to. `margin` says by how much the
    chosen one was preferred, in the units of the file (a column `margin`, or the difference of
    `score_chosen` and `score_rejected`).
    """

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    subset: str | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt alone: what completions are sampled for."""

    id: str
    messages: tuple[Message, ...]
