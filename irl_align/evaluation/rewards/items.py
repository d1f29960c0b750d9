"""Preference items: a prompt, the chosen response, and one or more rejected ones.

Every shape of `irl_align.llm.data.preferences` is an item with one rejected response. Best-of-N
rows, as in RewardBench 2, hold lists of texts: `{"prompt": ..., "chosen": ["..."], "rejected":
["...", "...", "..."]}`. Rows with several chosen responses (its subset Ties) follow a protocol of
their own and are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from irl_align.core.errors import UserError
from irl_align.llm.data.conversation import BadRow, Fields, check_prompt, read_prompt, read_text
from irl_align.llm.data.loading import OnBadRows, Parsed, load_records
from irl_align.llm.data.preferences import PROMPT_COLUMNS, parse_preference
from irl_align.llm.data.report import DataReport
from irl_align.llm.data.schema import Message

__all__ = ["Item", "load_items", "share_out"]


@dataclass(frozen=True)
class Item:
    """`responses`: the chosen one, then the rejected."""

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    subset: str | None = None

    @property
    def prompt_key(self) -> str:
        """16 hex digits that tell prompts apart; items of one prompt are resampled together."""
        return hashlib.sha256(json.dumps(self.prompt).encode()).hexdigest()[:16]

    @property
    def characters(self) -> int:
        """Length of the longest conversation, to batch like with like."""
        return sum(len(m["content"]) for m in self.prompt) + max(map(len, self.responses))


def load_items(
    source: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_bad_rows: OnBadRows = "error",
) -> tuple[list[Item], DataReport]:
    """Items of a file, a saved data set or a hub name. The network is asked for a hub name only.

    `limit`: see `share_out`; all rows are read and checked. Raises `UserError` naming rows and
    keys.
    """
    if limit is not None and limit < 1:
        raise UserError(f"{source}: limit={limit} asks for no items; give 1 or more, or leave out")
    items, report = load_records(
        source, "preferences", parse_item, split=split, limit=None, on_bad_rows=on_bad_rows
    )
    return share_out(items, limit) if limit is not None else items, report


def share_out(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, each subset with its share, the first of each, in the order given.

    Shares are rounded by largest remainder, so that they sum to `limit`; a subset whose share
    rounds to nothing is left out.
    """
    if limit >= len(items):
        return list(items)
    sizes: dict[str | None, int] = {}
    for item in items:
        sizes[item.subset] = sizes.get(item.subset, 0) + 1
    exact = {name: limit * size / len(items) for name, size in sizes.items()}
    room = {name: int(share) for name, share in exact.items()}
    rest = sorted(exact, key=lambda name: room[name] - exact[name])
    for name in rest[: limit - sum(room.values())]:
        room[name] += 1
    kept = []
    for item in items:
        if room[item.subset] > 0:
            room[item.subset] -= 1
            kept.append(item)
    return kept


def parse_item(fields: Fields, id: str) -> Parsed[Item]:
    """One row; raises `BadRow`."""
    if not _is_texts(fields.get("rejected")):
        pair = parse_preference(fields, id)
        record = pair.record
        item = Item(id, record.prompt, (record.chosen, record.rejected), record.subset)
        return Parsed(item, pair.prompt, pair.responses, pair.shape, pair.columns)
    chosen = fields.get("chosen")
    best: list[Any] = list(chosen) if isinstance(chosen, list) else [chosen]
    if len(best) != 1:
        raise BadRow(
            "several chosen",
            f"'chosen' has {len(best)} responses, must have one (RewardBench 2's subset Ties is "
            "not supported; drop it with on_bad_rows=drop)",
        )
    texts = [("chosen", best[0]), *(("rejected", text) for text in fields["rejected"])]
    responses = tuple(read_text({key: text}, key, "empty response") for key, text in texts)
    if responses[0].strip() in [text.strip() for text in responses[1:]]:
        raise BadRow("chosen equals rejected", "'chosen' is among 'rejected'; delete the row")
    key = next((key for key in PROMPT_COLUMNS if fields.get(key) is not None), None)
    if key is None:
        raise BadRow("missing column", "has 'chosen' and 'rejected' but no 'prompt'; add it")
    prompt = tuple(read_prompt(fields, key))
    check_prompt(prompt, key)
    subset = fields.get("subset")
    item = Item(id, prompt, responses, str(subset) if subset not in (None, "") else None)
    columns = [key, "chosen", "rejected"]
    lengths = {"chosen": responses[0], "rejected": max(responses[1:], key=len)}
    return Parsed(item, prompt, lengths, f"{key} + chosen + list of rejected", columns)


def _is_texts(value: object) -> bool:
    """A list of texts; a list of messages is one whole response."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
