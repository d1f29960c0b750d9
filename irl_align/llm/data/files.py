"""Rows of one data file, one at a time, whatever its type.

Nothing is loaded whole, except a JSON array, whose text (not its objects) is held in memory.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from irl_align.core.errors import UserError

__all__ = ["FILE_TYPES", "OnBad", "Row", "bad_row_raises", "file_type", "read_file"]

FILE_TYPES = ".jsonl, .jsonl.gz, .json, .json.gz, .csv, .csv.gz, .parquet"
JSONL_SUFFIXES = (".jsonl", ".ndjson")
TEXT_SUFFIXES = (*JSONL_SUFFIXES, ".json", ".csv")
LFS_POINTER = b"version https://git-lfs.github.com/"

OnBad = Callable[[int, str, str], None]
"""Called with (row number, reason, message) for a row that cannot be read at all."""


@dataclass(frozen=True)
class Row:
    """One record. `number` counts from 1: the line of a text file (the first line of a CSV record
    that spans several), the position in a JSON array, Parquet file or data set otherwise."""

    number: int
    fields: dict[str, Any]
    source: str


def file_type(path: Path) -> str | None:
    """The data suffix of a path without `.gz` (".jsonl"), or None when it is not a data file."""
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in TEXT_SUFFIXES else None
    last = suffixes[-1] if suffixes else ""
    return last if last in (*TEXT_SUFFIXES, ".parquet") else None


def read_file(source: str, path: Path, on_bad: OnBad) -> Iterator[Row]:
    """The rows of the file `path`, which errors call `source`; see `rows.read_rows`."""
    kind = file_type(path)
    if kind is None:
        raise UserError(f"{source}: unknown file type {path.name!r}; accepted: {FILE_TYPES}")
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".json": _read_json}
    with _clear_file_errors(source):
        yield from readers.get(kind, _read_jsonl)(source, path, on_bad)


def bad_row_raises(source: str) -> OnBad:
    """What is told of a bad row becomes a UserError at once."""

    def raise_at_once(number: int, reason: str, message: str) -> None:
        raise UserError(f"{source}: row {number}: {message}")

    return raise_at_once


@contextmanager
def _clear_file_errors(source: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{source}: the compressed file is damaged or cut short ({error}); copy it again"
        ) from error
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _open_bytes(source: str, path: Path) -> Iterator[IO[bytes]]:
    """Open for reading, unpacking gzip by its first bytes: names lie, and both ways."""
    with path.open("rb") as raw:
        start = raw.read(len(LFS_POINTER))
        if not start:
            raise UserError(f"{source}: the file is empty")
        if start == LFS_POINTER:
            raise UserError(f"{source}: a Git LFS pointer, not the data; run `git lfs pull`")
        raw.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.open(raw, "rb") as unpacked:
                yield unpacked  # type: ignore[misc]  # GzipFile reads like any binary file
        else:
            yield raw


def _decode(raw: bytes, number: int, on_bad: OnBad) -> str | None:
    """One line as text; None (after telling `on_bad`) when it is not UTF-8."""
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that spreadsheet programs put first
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "the file looks like UTF-16; " if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        on_bad(
            number,
            "not UTF-8",
            f"byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not UTF-8; "
            f"{hint}save the file as UTF-8",
        )
        return None


def _parse_object(text: str, number: int, source: str, on_bad: OnBad) -> Row | None:
    text = text.rstrip()  # else the end of the line counts as the first column of the next
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; one whole object per line is expected" if error.pos >= len(text) else ""
        on_bad(number, "broken JSON", f"broken JSON at column {error.colno}: {error.msg}{hint}")
        return None
    except (RecursionError, ValueError) as error:  # nested too deep; integers of 4300+ digits
        on_bad(number, "broken JSON", f"unusable JSON: {error}")
        return None
    return _row(value, number, source, on_bad)


def _row(value: object, number: int, source: str, on_bad: OnBad) -> Row | None:
    if isinstance(value, dict):
        return Row(number, value, source)
    on_bad(
        number,
        "not an object",
        f"holds a {type(value).__name__}, not an object with named keys"
        + ("; name the file .json if it is one JSON array" if isinstance(value, list) else ""),
    )
    return None


def _read_jsonl(source: str, path: Path, on_bad: OnBad) -> Iterator[Row]:
    with _open_bytes(source, path) as lines:
        for number, raw in enumerate(lines, start=1):
            text = _decode(raw, number, on_bad)
            if text is None or not text.strip():
                continue  # blank lines are common at the end of a file and mean nothing
            row = _parse_object(text, number, source, on_bad)
            if row is not None:
                yield row


def _read_json(source: str, path: Path, on_bad: OnBad) -> Iterator[Row]:
    with _open_bytes(source, path) as file:
        first = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"{":  # many ".json" files hold one object per line
        yield from _read_jsonl(source, path, on_bad)
        return
    with _open_bytes(source, path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{source}: line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from error
    yield from _read_array(source, text, on_bad)


def _read_array(source: str, text: str, on_bad: OnBad) -> Iterator[Row]:
    """Objects of a JSON array one by one, so that only the text is held, never all objects."""
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        return at

    def broken(at: int, message: str) -> UserError:
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        return UserError(
            f"{source}: row {number}: broken JSON at line {line}, column {column}: {message}"
        )

    number, at = 1, skip(0)
    if text[at : at + 1] != "[":
        raise broken(at, "a JSON array of objects is expected")
    at = skip(at + 1)
    if text[at : at + 1] == "]":
        return
    while True:
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise broken(error.pos, error.msg) from error
        except (RecursionError, ValueError) as error:
            raise broken(at, str(error)) from error
        row = _row(value, number, source, on_bad)
        if row is not None:
            yield row
        at = skip(at)
        mark = text[at : at + 1]
        if mark == "]":
            return
        if mark != ",":
            raise broken(at, "expected ',' or ']'")
        at = skip(at + 1)
        number += 1


def _read_csv(source: str, path: Path, on_bad: OnBad) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses cells above 128 KiB

    with _open_bytes(source, path) as file:

        def lines() -> Iterator[str]:
            for number, raw in enumerate(file, start=1):
                # A line that is dropped could end a quoted cell, so here bad bytes are fatal.
                text = _decode(raw, number, bad_row_raises(source))
                assert text is not None
                yield text

        reader = csv.reader(lines(), strict=True)
        try:
            header = next(reader, [])
            if not any(header):
                raise UserError(f"{source}: row 1: no header; the first line must name the columns")
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise UserError(f"{source}: row 1: the header names {twice[0]!r} twice")
            while True:
                start = reader.line_num + 1
                cells = next(reader, None)
                if cells is None:
                    return
                if not cells:
                    continue
                if len(cells) != len(header):
                    on_bad(
                        start,
                        "ragged CSV",
                        f"has {len(cells)} cells but the header has {len(header)}; "
                        'quote text that holds commas or line ends ("...")',
                    )
                    continue
                yield Row(start, dict(zip(header, map(_csv_cell, cells), strict=True)), source)
        except csv.Error as error:
            raise UserError(f"{source}: row {reader.line_num}: broken CSV: {error}") from error


def _csv_cell(cell: str) -> object:
    """CSV has no lists: a cell that is a JSON array of objects is read as a list of messages."""
    if cell.startswith("[{") and cell.endswith("}]"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _read_parquet(source: str, path: Path, on_bad: OnBad) -> Iterator[Row]:
    del on_bad  # every row of a Parquet file can be read, or the file is damaged
    try:
        import pyarrow  # type: ignore[import-untyped, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UserError(f"{source}: reading Parquet needs pyarrow: pip install pyarrow") from error
    if path.stat().st_size == 0:
        raise UserError(f"{source}: the file is empty")
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=512):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(number, fields, source)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{source}: not a readable Parquet file (after row {number}): {error}"
        ) from error
