"""The loop that the three loaders share: read, convert, name, count, and refuse clearly."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from irl_align.core.errors import UserError
from irl_align.core.files import sha256_file
from irl_align.llm.data.conversation import METADATA, BadRow, Fields, near_column, repeats_a_role
from irl_align.llm.data.files import Row
from irl_align.llm.data.report import SHOWN_PROBLEMS, DataReport, Kind, LengthSummary
from irl_align.llm.data.rows import read_rows
from irl_align.llm.data.schema import Message

OnBadRows = Literal["error", "drop"]
Record = TypeVar("Record")


@dataclass(frozen=True)
class Parsed(Generic[Record]):
    """One converted row, with what the report says about it."""

    record: Record
    prompt: tuple[Message, ...]
    responses: Mapping[str, str]
    """Name of the length statistic -> text, e.g. {"response": ...}; empty for prompts."""
    shape: str
    columns: Sequence[str]
    """The columns that were used."""


Convert = Callable[[Fields, str], Parsed[Record]]
"""(fields, id) -> record; raises `BadRow`."""


def load_records(
    source: str,
    kind: Kind,
    convert: Convert[Record],
    *,
    split: str | None,
    limit: int | None,
    on_bad_rows: OnBadRows,
) -> tuple[list[Record], DataReport]:
    """Read all rows of `source` through `convert`.

    `limit` ends the reading once that many records are kept. With on_bad_rows="error" every row is
    still looked at, and one `UserError` then names the first five bad rows and their number; with
    "drop" they are counted in the report. No usable row at all is an error in both.
    """
    source = str(source)
    if on_bad_rows not in ("error", "drop"):
        raise UserError(f"on_bad_rows={on_bad_rows!r}: accepted are error and drop")
    if limit is not None and limit < 1:
        raise UserError(f"{source}: limit={limit} asks for no rows; give 1 or more, or null")
    tally = _Tally(DataReport(source, kind))
    records: list[Record] = []
    stem = _stem(source)
    for row in read_rows(source, split, on_bad=tally.bad):
        try:
            parsed = convert(row.fields, _id(row, stem))
        except BadRow as error:
            tally.bad(row.number, error.reason, str(error))
            continue
        records.append(tally.kept(row, parsed))
        if limit is not None and len(records) >= limit:
            break
    report = tally.finish()
    bad = sum(report.dropped.values())
    if bad and (on_bad_rows == "error" or not records):
        raise UserError(_refusal(report, bad))
    if not records:
        raise UserError(f"{source}: no rows; give a file that holds {kind}")
    return records, report


def _refusal(report: DataReport, bad: int) -> str:
    lines = [f"{report.source}: {bad} of {report.rows} rows cannot be used as {report.kind}:"]
    lines += [f"  {problem}" for problem in report.problems]
    if bad > SHOWN_PROBLEMS:
        counts = ", ".join(f"{reason} {n}" for reason, n in sorted(report.dropped.items()))
        lines.append(f"  and {bad - SHOWN_PROBLEMS} more (in all: {counts})")
    if report.kept:
        lines.append("mend these rows, or set on_bad_rows=drop to leave them out and count them")
    return "\n".join(lines)


def _id(row: Row, stem: str) -> str:
    given = row.fields.get("id")
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return given if isinstance(given, str) and given else f"{stem}:{row.number}"


def _stem(source: str) -> str:
    """File name without folder and suffixes: ids stay the same when a file is moved or packed."""
    path = Path(source).expanduser()
    return path.name.split(".")[0] or path.name if path.exists() else source


class _Tally:
    """Everything that is counted while the rows go by; texts are kept as 16-byte digests only."""

    def __init__(self, report: DataReport) -> None:
        self.report = report
        self.dropped: Counter[str] = Counter()
        self.problems: dict[str, list[int]] = {}  # message -> rows: one fault often is in all rows
        self.shapes: Counter[str] = Counter()
        self.lengths: dict[str, list[int]] = {}
        self.prompts: set[bytes] = set()
        self.contents: set[bytes] = set()
        self.ids: set[str] = set()
        self.columns: dict[str, None] = {}
        self.used: set[str] = set()
        self.renamed = 0
        self.repeated_roles = 0
        self.swapped = 0
        # Hashing rows costs, and a file is hashed faster from its bytes.
        self.hash = None if Path(report.source).expanduser().is_file() else hashlib.sha256()

    def bad(self, number: int, reason: str, message: str) -> None:
        self.report.rows += 1
        self.dropped[reason] += 1
        if sum(map(len, self.problems.values())) < SHOWN_PROBLEMS:
            self.problems.setdefault(message, []).append(number)

    def kept(self, row: Row, parsed: Parsed[Record]) -> Record:
        """Count a usable row; gives its record, under an id that no other record has."""
        report = self.report
        report.rows += 1
        report.kept += 1
        self.shapes[parsed.shape] += 1
        self.columns.update(dict.fromkeys(row.fields))
        self.used.update(parsed.columns)
        if self.hash is not None:
            self.hash.update(json.dumps(row.fields, default=str, sort_keys=True).encode())
        self._lengths(parsed)
        self._contents(parsed)
        self.repeated_roles += repeats_a_role(parsed.prompt)
        return self._with_unique_id(parsed.record)

    def _lengths(self, parsed: Parsed[Any]) -> None:
        size = sum(len(message["content"]) for message in parsed.prompt)
        self.lengths.setdefault("prompt", []).append(size)
        for name, text in parsed.responses.items():
            self.lengths.setdefault(name, []).append(len(text))

    def _contents(self, parsed: Parsed[Any]) -> None:
        turns = [(message["role"], message["content"]) for message in parsed.prompt]
        texts = list(parsed.responses.values())
        self.prompts.add(_digest(turns))
        content = _digest([turns, texts])
        self.report.duplicates += content in self.contents
        self.contents.add(content)
        if len(texts) == 2:
            self.swapped += _digest([turns, texts[::-1]]) in self.contents

    def _with_unique_id(self, record: Record) -> Record:
        fields: Any = record  # all three record types are frozen dataclasses with an id
        name, copy = fields.id, 1
        while name in self.ids:
            copy += 1
            name = f"{fields.id}#{copy}"
        self.ids.add(name)
        if name != fields.id:
            self.renamed += 1
            object.__setattr__(record, "id", name)
        return record

    def finish(self) -> DataReport:
        report = self.report
        report.dropped = dict(self.dropped)
        report.problems = [
            f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}: {message}"
            for message, rows in self.problems.items()
        ]
        report.shapes = dict(self.shapes)
        report.distinct_prompts = len(self.prompts)
        report.lengths = {name: LengthSummary.of(n) for name, n in self.lengths.items()}
        report.unused_columns = [
            str(name) for name in self.columns if name not in self.used | METADATA
        ]
        report.sha256 = (
            sha256_file(Path(report.source).expanduser())
            if self.hash is None
            else self.hash.hexdigest()
        )
        report.warnings = self._warnings()
        return report

    def _warnings(self) -> list[str]:
        report, found = self.report, []
        for column in report.unused_columns:
            if near := near_column(column):
                found.append(f"column {column!r} is not used; is it a slip of {near!r}?")
        if report.duplicates:
            found.append(f"{report.duplicates} rows repeat an earlier row word for word (kept)")
        if self.swapped:
            found.append(f"{self.swapped} pairs contradict an earlier pair (same texts, swapped)")
        if self.renamed:
            found.append(f"{self.renamed} ids were used twice; the later ones end in #2, #3, ...")
        if self.repeated_roles:
            found.append(
                f"{self.repeated_roles} prompts have two turns of one role in a row, which some "
                "chat templates refuse; check with your model's tokenizer"
            )
        return found


def _digest(value: object) -> bytes:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).digest()
