"""From the fields of a row to a checked conversation.

Every function takes the key it works on, so that whatever is wrong can be said with its place, and
raises `BadRow` (reason for counting, message for mending) instead of guessing. Text is never
changed, with one exception: the turns of a "Human: ... Assistant: ..." transcript are stripped of
the white space that separates them.

Turn order: an optional system message, then a user message first and last before the response.
Two turns of one role in a row are accepted before the response (real transcripts have them) and
counted, since some chat templates refuse them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from irl_align.llm.data.schema import Message, Role

Fields = Mapping[str, Any]

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",  # ShareGPT and its children
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_KNOWN_KEYS = (
    *("messages", "conversations", "system", "prompt", "question", "instruction"),
    *("input", "context", "completion", "response", "answer", "output"),
    *("chosen", "rejected", "real", "generated"),
)

# Columns that carry no text to learn from; every loader knows what to do with them.
METADATA = {"id", "prompt_id", "subset", "margin", "score_chosen", "score_rejected"}


class BadRow(Exception):
    """A row that cannot be used: `reason` is what is counted, the message says what to mend."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_text(fields: Fields, key: str, empty: str, *, where: str | None = None) -> str:
    """`fields[key]` as text, unchanged; `empty` is the reason given for blank text."""
    where = where or repr(key)
    value = fields.get(key)
    if value is None:
        raise BadRow(empty, f"{where} is null; write its text, or delete the row")
    if not isinstance(value, str):
        raise BadRow(
            "wrong type", f"{where} is {_type_name(value)}, must be text; write it as a string"
        )
    _check_unicode(value, where)
    if not value.strip():
        what = "white space only" if value else "empty"
        raise BadRow(empty, f"{where} is {what}; write its text, or delete the row")
    return value


def read_messages(value: object, key: str) -> list[Message]:
    """A list of {role, content} or {from, value} as messages; roles are brought to three names."""
    if isinstance(value, str):
        raise BadRow(
            "wrong type",
            f"{key!r} is text, must be a list of messages; in CSV write it as JSON, "
            'such as [{"role": "user", "content": "..."}]',
        )
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise BadRow("wrong type", f"{key!r} is {_type_name(value)}, must be a list of messages")
    if not value:
        raise BadRow("empty conversation", f"{key!r} has no messages; delete the row")
    return [_read_message(turn, f"{key}[{i}]") for i, turn in enumerate(value)]


def _read_message(turn: object, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise BadRow(
            "wrong type", f"{where} is {_type_name(turn)}, must be an object with role and content"
        )
    role_key, text_key = ("from", "value") if "from" in turn else ("role", "content")
    for key in (role_key, text_key):
        if key not in turn:
            raise BadRow(
                "missing key", f"{where} has no {key!r}" + _near_miss(key, turn) + _has(turn)
            )
    if turn.get("tool_calls"):
        raise BadRow(
            "tool call", f"{where} calls tools, which cannot be kept as text; delete the row"
        )
    name = turn[role_key]
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise BadRow(
            "unknown role",
            f"{where}.{role_key} is {name!r}; accepted: system, user (human), assistant (gpt)",
        )
    place = f"{where}.{text_key}"
    if role == "system" and turn[text_key] == "":
        return Message(role=role, content="")  # says "none" to templates that bring their own
    empty = "empty response" if role == "assistant" else "empty prompt"
    return Message(role=role, content=read_text(turn, text_key, empty, where=place))


def is_transcript(value: object) -> bool:
    """Is it the Anthropic HH form, "\\n\\nHuman: ...\\n\\nAssistant: ..."?"""
    if not isinstance(value, str):
        return False
    return value.startswith("\n\nHuman:") or (
        value.lstrip().startswith("Human:") and "\n\nAssistant:" in value
    )


def read_transcript(text: str, key: str, *, open_end: bool = False) -> list[Message]:
    """The turns of an HH transcript. With `open_end` a last "Assistant:" without text (which
    invites the response) is left out instead of being an empty turn."""
    _check_unicode(text, repr(key))
    pieces = _TURN.split(text.strip())
    names, texts = pieces[1::2], [piece.strip() for piece in pieces[2::2]]
    if open_end and names and names[-1] == "Assistant" and not texts[-1]:
        names, texts = names[:-1], texts[:-1]
    messages = []
    for turn, (name, content) in enumerate(zip(names, texts, strict=True), start=1):
        role: Role = "user" if name == "Human" else "assistant"
        if not content:
            empty = "empty response" if role == "assistant" else "empty prompt"
            raise BadRow(
                empty, f"{key!r}: turn {turn} ({name}) is empty; write its text, or delete the row"
            )
        messages.append(Message(role=role, content=content))
    return messages


def read_prompt(fields: Fields, key: str) -> list[Message]:
    """The prompt in `fields[key]` (text, messages or transcript), with the row's `system` text.

    `instruction` takes its `input` (Alpaca) or `context` (Dolly) along, after a blank line.
    """
    value = fields[key]
    if is_transcript(value):
        messages = read_transcript(value, key, open_end=True)
    elif isinstance(value, str) or value is None:
        content = read_text(fields, key, "empty prompt")
        extra_key = "input" if fields.get("input") else "context"
        if key == "instruction" and fields.get(extra_key):
            extra = fields[extra_key]
            if not isinstance(extra, str) or extra.strip():
                content += "\n\n" + read_text(fields, extra_key, "empty prompt")
        messages = [Message(role="user", content=content)]
    else:
        messages = read_messages(value, key)
    return with_system(messages, fields)


def with_system(messages: list[Message], fields: Fields) -> list[Message]:
    """Put the text of a `system` column first, unless the messages bring their own."""
    value = fields.get("system")
    blank = value is None or (isinstance(value, str) and not value.strip())
    if blank or (messages and messages[0]["role"] == "system"):
        return messages
    text = read_text(fields, "system", "empty prompt")
    return [Message(role="system", content=text), *messages]


def check_prompt(prompt: Sequence[Message], key: str) -> None:
    """Raise unless the turns are [system] user ... user."""
    roles = [message["role"] for message in prompt]
    if "system" in roles[1:]:
        raise BadRow(
            "wrong role order",
            f"{key!r}: a system message at turn {roles.index('system', 1) + 1}; "
            "it may only come first",
        )
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns:
        raise BadRow("empty prompt", f"{key!r} has no user turn before the response")
    if turns[0] != "user":
        raise BadRow(
            "wrong role order",
            f"{key!r} begins with the assistant's turn; a user turn must come first",
        )
    if turns[-1] != "user":
        raise BadRow(
            "wrong role order",
            f"{key!r}: the turn before the response is the assistant's, must be the user's; "
            "join the two, or delete the row",
        )


def split_response(messages: Sequence[Message], key: str) -> tuple[tuple[Message, ...], str]:
    """Cut a conversation into what precedes the last turn and that turn, the assistant's."""
    last = messages[-1] if messages else None
    if last is None or last["role"] != "assistant":
        role = last["role"] if last else "nobody"
        raise BadRow(
            "no response",
            f"{key!r} ends with the {role}'s turn; the last turn must be the assistant's response",
        )
    return tuple(messages[:-1]), last["content"]


def repeats_a_role(prompt: Sequence[Message]) -> bool:
    """Are there two turns of one role in a row? (Some chat templates refuse that.)"""
    roles = [message["role"] for message in prompt]
    return any(a == b for a, b in pairwise(roles))


def missing_columns(fields: Fields, accepted: str) -> BadRow:
    """The error for a row whose keys fit no accepted shape, with near misses of known keys."""
    near = {key: near_column(key) for key in fields}
    hints = [f"{key!r} looks like {name!r}" for key, name in near.items() if name]
    hint = f" ({'; '.join(hints)})" if hints else ""
    return BadRow("missing column", f"no usable columns{_has(fields)}{hint}; accepted: {accepted}")


def near_column(key: object) -> str | None:
    """The known column that `key` is likely a slip of ("reponse", "Prompt"), if any."""
    if not isinstance(key, str) or key in _KNOWN_KEYS or key in METADATA:
        return None
    near = difflib.get_close_matches(key.lower(), _KNOWN_KEYS, n=1, cutoff=0.75)
    return near[0] if near else None


def present(fields: Fields, *keys: str) -> list[str]:
    """Those of `keys` that the row has. A null counts as absent: tables that join data sets of
    different shapes are full of them."""
    return [key for key in keys if fields.get(key) is not None]


def _near_miss(key: str, fields: Fields) -> str:
    names = [name for name in fields if isinstance(name, str)]
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.7)
    return f" (is {near[0]!r} a slip?)" if near else ""


def _has(fields: Fields) -> str:
    names = [str(name) for name in fields]
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; it has {shown or 'nothing'}"


def _type_name(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    names = {str: "text", dict: "an object", list: "a list", bool: "true or false"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(
            "broken unicode",
            f"{where} has half of a surrogate pair (\\u{ord(text[error.start]):04x}) at character "
            f"{error.start + 1}, which tokenizers refuse; write the whole character, or remove it",
        ) from error
