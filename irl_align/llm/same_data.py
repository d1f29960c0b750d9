"""Whether a run goes on with the data that it, or another, started with.

A run keeps the hashes of all that it read in data.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.core.run import RunDirectory

__all__ = ["check_same_data", "run_with_same_data"]

_RECORD = "data.json"


def check_same_data(run: RunDirectory, hashes: Mapping[str, str]) -> None:
    """A run goes on with the data that it started with, or not at all."""
    record = run.path / _RECORD
    if record.exists():
        before = json.loads(record.read_text(encoding="utf-8"))
        changed = sorted(role for role in hashes if before.get(role) != hashes[role])
        if changed:
            raise UserError(
                f"{run.path}: the content of {', '.join(changed)} changed since this run started; "
                "put the file back as it was, or choose a new run_dir"
            )
    atomic_write_json(record, dict(hashes))


def run_with_same_data(path: Path, hashes: Mapping[str, str]) -> RunDirectory | None:
    """The run at `path`, when what both read is the same."""
    record = path / _RECORD
    if not record.exists():
        return None
    there = json.loads(record.read_text(encoding="utf-8"))
    if any(there[role] != hashes[role] for role in hashes.keys() & there.keys()):
        return None
    return RunDirectory.read(path)
