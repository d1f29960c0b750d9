"""Per-item rows written while an evaluation runs, so that a kill costs one chunk and no more.

One JSON object a line with an `id`. Rows are appended in chunks and synced; a line that a crash has
torn is cut off when the file is opened again. One process writes at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from irl_align.core.errors import UserError, naming
from irl_align.core.files import atomic_write_text, to_json

__all__ = ["ItemLog"]


class ItemLog:
    """The rows of one evaluation, by id; a context manager that holds the file's lock.

    >>> with ItemLog(folder / record.items_name) as log:           # doctest: +SKIP
    ...     todo = [item for item in items if item.id not in log.rows]
    ...     log.append(rows_of(todo[:32]))                          # durable when this returns
    ...     log.finish([item.id for item in items])                 # in the order of the data
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Raises UserError when another process writes the file, or a line in it is no row."""
        with naming(self.path):
            self._file = open(self.path, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError:
            self.close()
            raise UserError(
                f"{self.path} is being written by the same evaluation in another process; "
                "wait for it, or end it"
            ) from None
        except BaseException:
            self.close()
            raise
        return self

    def _read(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        text = self._file.read()
        whole = text.rfind(b"\n") + 1
        for number, line in enumerate(text[:whole].splitlines(), start=1):
            try:
                row = json.loads(line)
                self.rows[row["id"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}, line {number} is no row of results; delete the file and run "
                    "the evaluation again"
                ) from error
        if whole < len(text):
            self._file.truncate(whole)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, on the disk when this returns; of two rows with one id the later counts."""
        assert self._file is not None, "used outside of `with`"
        new = {str(row["id"]): dict(row) for row in rows}
        text = "".join(to_json(row, indent=None) + "\n" for row in new.values())
        with naming(self.path):
            self._file.write(text.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        self.rows |= new

    def finish(self, order: Sequence[str]) -> None:
        """Rewrite the file with one row an id, in this order; KeyError when one is missing."""
        self.rows = {identity: self.rows[identity] for identity in order}
        text = "".join(to_json(row, indent=None) + "\n" for row in self.rows.values())
        atomic_write_text(self.path, text)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
