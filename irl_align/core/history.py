"""metrics.jsonl: one row a round, also of the rounds that are not committed one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_align.core.errors import naming
from irl_align.core.files import atomic_write_bytes, to_json


class MetricsLog:
    """The append-only log of a run's rounds; rows may be lost or torn until :meth:`sync`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, round: int, metrics: Mapping[str, float]) -> None:
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(to_json({"round": round, **metrics}, indent=None) + "\n")

    def sync(self) -> None:
        """Bring the appended rows to the disk."""
        if self.path.exists():
            with open(self.path, "ab") as file:
                os.fsync(file.fileno())

    def rows(self) -> dict[int, dict[str, float]]:
        """Metrics by round, up to the first torn row."""
        rows: dict[int, dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_bytes().splitlines(keepends=True):
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    row = None
                if not isinstance(row, dict) or "round" not in row:
                    break
                rows[int(row.pop("round"))] = row
        return rows

    def repair(self, done_rounds: int, committed: Mapping[int, Mapping[str, float]]) -> None:
        """After a crash: drop a torn row and rows of rounds that will be done again.

        ``committed`` holds the metrics of the rounds that have their own file, which win.
        """
        if not self.path.exists() and not committed:
            return
        rows: dict[int, Mapping[str, float]] = {
            number: row for number, row in self.rows().items() if number < done_rounds
        }
        rows |= committed
        text = "".join(to_json({"round": n, **rows[n]}, indent=None) + "\n" for n in sorted(rows))
        if not self.path.exists() or text.encode() != self.path.read_bytes():
            atomic_write_bytes(self.path, text.encode())
