"""Preference pairs from any of the shapes in which people keep them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from irl_align.llm.data.conversation import (
    BadRow,
    Fields,
    check_prompt,
    is_transcript,
    missing_columns,
    present,
    read_messages,
    read_prompt,
    read_text,
    read_transcript,
    split_response,
    with_system,
)
from irl_align.llm.data.loading import OnBadRows, Parsed, load_records
from irl_align.llm.data.report import DataReport
from irl_align.llm.data.schema import Demonstration, Message, Preference

ACCEPTED = (
    "prompt (or question, instruction, messages) + chosen + rejected; chosen + rejected as message "
    'lists or as "\\n\\nHuman: ... \\n\\nAssistant: ..." transcripts; real + generated (SPIN)'
)
PROMPT_COLUMNS = ("messages", "conversations", "prompt", "question", "instruction")


def load_preferences(
    source: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_bad_rows: OnBadRows = "error",
) -> tuple[list[Preference], DataReport]:
    """Load and check preference pairs from a file, a saved data set or a hub name.

    Both responses must follow the same prompt and must differ in more than surrounding white
    space. `limit` keeps the first so many. Raises `UserError`; see `load_records`.
    """
    return load_records(
        source,
        "preferences",
        parse_preference,
        split=split,
        limit=limit,
        on_bad_rows=on_bad_rows,
    )


def chosen_as_demonstrations(preferences: Iterable[Preference]) -> list[Demonstration]:
    """The preferred side alone: demonstrations by whoever wrote the chosen responses."""
    return [Demonstration(pair.id, pair.prompt, pair.chosen) for pair in preferences]


def pair_columns(fields: Fields) -> tuple[str, str] | None:
    """The columns of the better and the worse response, if the row has them (nulls count)."""
    for better, worse in (("chosen", "rejected"), ("real", "generated")):
        if better in fields and worse in fields:
            return better, worse
    return None


def parse_preference(fields: Fields, id: str) -> Parsed[Preference]:
    """One row; raises `BadRow`."""
    keys = pair_columns(fields)
    if keys is None:
        raise missing_columns(fields, ACCEPTED)
    if all(_is_whole(fields[key]) for key in keys):
        # The prompt is in both conversations, and any prompt column only repeats it.
        first, second = (with_system(_whole(fields, key), fields) for key in keys)
        columns = [*keys, *present(fields, "system")]
        form = "transcripts" if is_transcript(fields[keys[0]]) else "message lists"
        shape = f"{keys[0]} + {keys[1]} ({form})"
    else:
        prompt_key = _prompt_column(fields, keys)
        lead = read_prompt(fields, prompt_key)
        first, second = ([*lead, *_response(fields, key)] for key in keys)
        extra = ("system", "input", "context") if prompt_key == "instruction" else ("system",)
        columns = [prompt_key, *keys, *present(fields, *extra)]
        shape = f"{prompt_key} + {keys[0]} + {keys[1]}"
    prompt, chosen = split_response(first, keys[0])
    prompt_of_rejected, rejected = split_response(second, keys[1])
    if prompt != prompt_of_rejected:
        raise BadRow(
            "prompts differ",
            f"{keys[0]!r} and {keys[1]!r} answer different prompts"
            f"{_first_difference(prompt, prompt_of_rejected)}; only the last turn may differ",
        )
    check_prompt(prompt, keys[0])
    if chosen.strip() == rejected.strip():
        raise BadRow(
            "chosen equals rejected",
            f"{keys[0]!r} equals {keys[1]!r}, which says nothing; delete the row",
        )
    record = Preference(id, prompt, chosen, rejected, _subset(fields), _margin(fields))
    return Parsed(record, prompt, {"chosen": chosen, "rejected": rejected}, shape, columns)


def _is_whole(value: object) -> bool:
    """Does it hold the prompt as well, being a transcript or a list that does not begin with the
    assistant?"""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return value[0].get("role", value[0].get("from")) not in ("assistant", "gpt")
    return is_transcript(value)


def _whole(fields: Fields, key: str) -> list[Message]:
    value = fields[key]
    return read_transcript(value, key) if isinstance(value, str) else read_messages(value, key)


def _response(fields: Fields, key: str) -> list[Message]:
    value = fields[key]
    if isinstance(value, list):
        return read_messages(value, key)
    return [Message(role="assistant", content=read_text(fields, key, "empty response"))]


def _prompt_column(fields: Fields, keys: tuple[str, str]) -> str:
    found = present(fields, *PROMPT_COLUMNS) or [key for key in PROMPT_COLUMNS if key in fields]
    if found:
        return found[0]
    for key in keys:  # an empty response explains a row better than a prompt that cannot be found
        if not isinstance(fields[key], list):
            read_text(fields, key, "empty response")
    raise BadRow(
        "missing column",
        f"has {keys[0]!r} and {keys[1]!r} but no prompt; add a column 'prompt', or write both as "
        'whole conversations (message lists, or "\\n\\nHuman: ... \\n\\nAssistant: ..." text)',
    )


def _first_difference(first: tuple[Message, ...], second: tuple[Message, ...]) -> str:
    for turn, (a, b) in enumerate(zip(first, second, strict=False), start=1):
        if a != b:
            return f" (from turn {turn} on)"
    return f" ({len(first)} turns against {len(second)})"


def _subset(fields: Fields) -> str | None:
    value = fields.get("subset")
    return None if value is None or value == "" else str(value)


def _margin(fields: Fields) -> float | None:
    if present(fields, "margin"):
        return _number(fields, "margin")
    if len(present(fields, "score_chosen", "score_rejected")) == 2:
        return _number(fields, "score_chosen") - _number(fields, "score_rejected")
    return None


def _number(fields: Fields, key: str) -> float:
    try:
        value = float(fields[key])  # text too: CSV has no numbers
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise BadRow("wrong type", f"{key!r} is {fields[key]!r}, must be a finite number")
    return value
