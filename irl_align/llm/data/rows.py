"""Rows of a data source, one at a time: a file, a saved data set, or a name on the hub.

`read_rows` knows sources and nothing of demonstrations or preferences: it yields dictionaries with
the number that a person needs to find them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.llm.data.files import FILE_TYPES, OnBad, Row, bad_row_raises, file_type, read_file
from irl_align.llm.data.hub import read_hub_dataset, read_saved_dataset

__all__ = ["read_rows"]


def read_rows(
    source: str,
    split: str | None = None,
    *,
    limit: int | None = None,
    on_bad: OnBad | None = None,
) -> Iterator[Row]:
    """Yield the rows of a file, of a folder written by `Dataset.save_to_disk`, or of a hub name.

    `source` is taken as a hub name (`org/name`, or `org/name:config`) only when no file or folder
    has that name and it does not look like a path. `split` belongs to saved data sets and hub
    names. `limit` stops after that many rows. A row that cannot be read (not UTF-8, broken JSON,
    not an object, a ragged CSV line) raises `UserError` at once, or is handed to `on_bad` and
    skipped. Whatever makes the rest of the source unreadable always raises `UserError`.
    """
    if limit is not None and limit < 1:
        raise UserError(f"{source}: limit={limit} asks for no rows; give 1 or more, or null")
    report = on_bad if on_bad is not None else bad_row_raises(source)
    yield from islice(_open_source(source, split, report), limit)


def _open_source(source: str, split: str | None, on_bad: OnBad) -> Iterator[Row]:
    if not source.strip():
        raise UserError(
            f"an empty path; name a file ({FILE_TYPES}), a saved data set or a hub name"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        yield from read_saved_dataset(source, path, split)
        return
    if not path.exists():
        if _looks_like_a_path(source, path):
            raise UserError(
                f"{source}: no such file or folder; check the path (accepted: {FILE_TYPES}, "
                "a folder written by datasets' save_to_disk, or a hub name such as org/name)"
            )
        yield from read_hub_dataset(source, split)
        return
    if split is not None:
        raise UserError(
            f"{source}: split={split!r} has no meaning for a single file; leave split out, "
            "or give the file that holds this split"
        )
    yield from read_file(source, path, on_bad)


def _looks_like_a_path(source: str, path: Path) -> bool:
    return (
        source.startswith((".", "/", "~"))
        or "\\" in source
        or source.count("/") > 1
        or file_type(path) is not None
        or source != source.strip()
    )
