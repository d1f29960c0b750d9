"""Demonstrations from any of the shapes in which people keep them."""

from __future__ import annotations

from irl_align.llm.data.conversation import (
    BadRow,
    Fields,
    check_prompt,
    missing_columns,
    present,
    read_messages,
    read_prompt,
    read_text,
    split_response,
    with_system,
)
from irl_align.llm.data.loading import OnBadRows, Parsed, load_records
from irl_align.llm.data.report import DataReport
from irl_align.llm.data.schema import Demonstration, Message

ACCEPTED = (
    "messages; conversations; prompt + completion (or response); question + answer; "
    "instruction (+ input) + output"
)
PROMPT_COLUMNS = ("prompt", "question", "instruction")
RESPONSE_COLUMNS = ("completion", "response", "answer", "output")


def load_demonstrations(
    source: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_bad_rows: OnBadRows = "error",
) -> tuple[list[Demonstration], DataReport]:
    """Load and check demonstrations from a file, a saved data set or a hub name.

    The last turn of a conversation must be the assistant's: it is the response, everything before
    is the prompt. `limit` keeps the first so many. Raises `UserError`; see `load_records`.
    """
    return load_records(
        source,
        "demonstrations",
        parse_demonstration,
        split=split,
        limit=limit,
        on_bad_rows=on_bad_rows,
    )


def parse_demonstration(fields: Fields, id: str) -> Parsed[Demonstration]:
    """One row; raises `BadRow`. A column of whole conversations goes before a column `prompt`,
    which such tables often carry as a copy of the first turn."""
    conversations = present(fields, "messages", "conversations")
    if conversations and not present(fields, "chosen", "real"):
        key = conversations[0]
        messages = with_system(read_messages(fields[key], key), fields)
        columns = [key, *present(fields, "system")]
        return _demonstration(messages, id, key, key, columns)
    prompt_key, response_key = _columns(fields)
    messages = [*read_prompt(fields, prompt_key), *_response(fields, response_key)]
    extra = ("system", "input", "context") if prompt_key == "instruction" else ("system",)
    columns = [prompt_key, response_key, *present(fields, *extra)]
    shape = f"{prompt_key} + {response_key}"
    return _demonstration(messages, id, shape, response_key, columns)


def _demonstration(
    messages: list[Message], id: str, shape: str, key: str, columns: list[str]
) -> Parsed[Demonstration]:
    prompt, response = split_response(messages, key)
    check_prompt(prompt, key)
    record = Demonstration(id, prompt, response)
    return Parsed(record, prompt, {"response": response}, shape, columns)


def _columns(fields: Fields) -> tuple[str, str]:
    """The one prompt column and the one response column of a row."""
    if any(set(pair) <= set(fields) for pair in (("chosen", "rejected"), ("real", "generated"))):
        raise BadRow(
            "missing column",
            "holds a pair of responses, so it is a preference; load it as preferences, or write "
            "the response to imitate into a column 'response'",
        )
    found = []
    for known in (PROMPT_COLUMNS, RESPONSE_COLUMNS):
        # A null cell is worth a message of its own when the column is the only candidate.
        keys = present(fields, *known) or [key for key in known if key in fields]
        if not keys:
            raise missing_columns(fields, ACCEPTED)
        if len(keys) > 1:
            raise BadRow(
                "ambiguous columns",
                f"has {' and '.join(map(repr, keys))}, of which only one can be meant; "
                "remove or rename the others",
            )
        found.append(keys[0])
    return found[0], found[1]


def _response(fields: Fields, key: str) -> list[Message]:
    value = fields[key]
    if isinstance(value, list):
        return read_messages(value, key)
    return [Message(role="assistant", content=read_text(fields, key, "empty response"))]
