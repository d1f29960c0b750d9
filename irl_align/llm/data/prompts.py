"""Prompts: from files of prompts alone, or those of demonstrations and preferences."""

from __future__ import annotations

from irl_align.llm.data.conversation import (
    Fields,
    check_prompt,
    missing_columns,
    present,
    read_messages,
    read_prompt,
    with_system,
)
from irl_align.llm.data.loading import OnBadRows, Parsed, load_records
from irl_align.llm.data.preferences import pair_columns, parse_preference
from irl_align.llm.data.report import DataReport
from irl_align.llm.data.schema import Message, Prompt

ACCEPTED = (
    "prompt; messages; conversations; question; instruction (+ input); "
    "and every shape of demonstrations and preferences"
)


def load_prompts(
    source: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_bad_rows: OnBadRows = "error",
) -> tuple[list[Prompt], DataReport]:
    """Load and check prompts from a file, a saved data set or a hub name.

    Responses are left out, and not looked at where the prompt stands by itself. Repeated prompts
    are kept and counted. `limit` keeps the first so many. Raises `UserError`; see `load_records`.
    """
    return load_records(
        source, "prompts", parse_prompt, split=split, limit=limit, on_bad_rows=on_bad_rows
    )


def parse_prompt(fields: Fields, id: str) -> Parsed[Prompt]:
    """One row; raises `BadRow`. Reads the same columns as the loader of the kind would."""
    found = present(fields, "messages", "conversations", "prompt", "question", "instruction")
    if not found and pair_columns(fields) is not None:
        pair = parse_preference(fields, id)
        return Parsed(Prompt(id, pair.prompt), pair.prompt, {}, pair.shape, pair.columns)
    if not found:
        found = [key for key in ("prompt", "question", "instruction") if key in fields]
    if not found:
        raise missing_columns(fields, ACCEPTED)
    key = found[0]
    messages: list[Message]
    if key in ("messages", "conversations"):
        messages = with_system(read_messages(fields[key], key), fields)
        if len(messages) > 1 and messages[-1]["role"] == "assistant":
            messages.pop()  # the response of a demonstration
    else:
        messages = read_prompt(fields, key)
    prompt = tuple(messages)
    check_prompt(prompt, key)
    extra = ("system", "input", "context") if key == "instruction" else ("system",)
    return Parsed(Prompt(id, prompt), prompt, {}, key, [key, *present(fields, *extra)])
