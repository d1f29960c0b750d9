"""Check a data file by itself, before any model is loaded: `irl-align check-data FILE`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

from irl_align.core.errors import UserError
from irl_align.llm.data.conversation import Fields, near_column, present
from irl_align.llm.data.demonstrations import (
    PROMPT_COLUMNS,
    RESPONSE_COLUMNS,
    load_demonstrations,
)
from irl_align.llm.data.loading import OnBadRows
from irl_align.llm.data.preferences import load_preferences
from irl_align.llm.data.prompts import load_prompts
from irl_align.llm.data.report import DataReport, Kind, LengthSummary
from irl_align.llm.data.rows import read_rows
from irl_align.llm.data.schema import Demonstration, Message, Preference, Prompt

ROWS_TO_GUESS_FROM = 20
BATCH = 256

Record = Demonstration | Preference | Prompt


def check_file(
    path: str,
    kind: Kind | Literal["auto"] = "auto",
    tokenizer: Any = None,
    max_length: int | None = None,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_bad_rows: OnBadRows = "error",
) -> DataReport:
    """Load `path` as what it is (or as `kind`) and report on it; bad rows raise `UserError`.

    With a Hugging Face `tokenizer` the report also has token counts, of the conversations as the
    tokenizer's chat template writes them, and how many exceed `max_length` tokens; a template that
    refuses a conversation (some take no system message, or no two turns of one role) is an error
    that names the record.
    """
    path = str(path)
    found: Kind = guess_kind(path, split) if kind == "auto" else kind
    loaders: dict[str, Any] = {
        "demonstrations": load_demonstrations,
        "preferences": load_preferences,
        "prompts": load_prompts,
    }
    if found not in loaders:
        raise UserError(f"kind={found!r}: accepted are auto, {', '.join(loaders)}")
    report: DataReport
    records, report = loaders[found](path, split=split, limit=limit, on_bad_rows=on_bad_rows)
    if tokenizer is not None:
        _count_tokens(records, report, tokenizer, max_length)
    return report


def guess_kind(path: str, split: str | None = None) -> Kind:
    """What the columns of the first rows say that the file holds."""
    votes: Counter[Kind] = Counter()
    for row in islice(read_rows(path, split, on_bad=lambda *_: None), ROWS_TO_GUESS_FROM):
        kind = _row_kind(row.fields)
        if kind is not None:
            votes[kind] += 1
    # A file that fits nothing is refused by the loader, which names the columns it looks for.
    return votes.most_common(1)[0][0] if votes else "demonstrations"


def _row_kind(fields: Fields) -> Kind | None:
    # Slips count as what they were meant to be, so that "reponse" is reported, not overlooked.
    names = {near_column(key) or key for key in fields}
    if {"chosen", "rejected"} <= names or {"real", "generated"} <= names:
        return "preferences"
    for key in present(fields, "messages", "conversations"):
        turns = fields[key]
        last = turns[-1] if isinstance(turns, list) and turns else None
        role = last.get("role", last.get("from")) if isinstance(last, dict) else None
        return "prompts" if role in ("user", "human") else "demonstrations"
    if names & set(RESPONSE_COLUMNS):
        return "demonstrations"
    return "prompts" if names & set(PROMPT_COLUMNS) else None


def _count_tokens(
    records: Sequence[Record], report: DataReport, tokenizer: Any, max_length: int | None
) -> None:
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        report.warnings.append(
            "the tokenizer has no chat template; token counts are of the bare texts"
        )
    lengths: dict[str, list[int]] = {}
    over = 0
    for batch in _batches(records):
        texts = [_texts(record, tokenizer, bool(template), report.source) for record in batch]
        flat = [text for named in texts for text in named.values()]
        counts = iter(map(len, tokenizer(flat, add_special_tokens=False)["input_ids"]))
        for named in texts:
            sizes = {name: next(counts) for name in named}
            for name, size in sizes.items():
                lengths.setdefault(name, []).append(size)
            over += max_length is not None and max(sizes.values()) > max_length
    report.tokens = {name: LengthSummary.of(sizes) for name, sizes in lengths.items()}
    report.max_length, report.over_max_length = max_length, over
    if over:
        report.warnings.append(f"{over} of {len(records)} are longer than {max_length} tokens")


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]


def _texts(record: Record, tokenizer: Any, template: bool, source: str) -> dict[str, str]:
    """Name -> text as the model sees it: the prompt, and the conversation with each response."""
    if isinstance(record, Prompt):
        prompt, responses = record.messages, {}
    elif isinstance(record, Demonstration):
        prompt, responses = record.prompt, {"prompt + response": record.response}
    else:
        prompt = record.prompt
        responses = {"prompt + chosen": record.chosen, "prompt + rejected": record.rejected}

    def write(messages: Iterable[Message], open_end: bool) -> str:
        if not template:
            return "\n\n".join(message["content"] for message in messages)
        from jinja2 import TemplateError

        try:
            return str(
                tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=open_end
                )
            )
        except TemplateError as error:
            raise UserError(
                f"{source}: record {record.id}: the tokenizer's chat template refuses the "
                f"conversation: {error}; mend the row, or use another template"
            ) from error

    texts = {"prompt": write(prompt, True)}
    for name, response in responses.items():
        texts[name] = write([*prompt, Message(role="assistant", content=response)], False)
    return texts
