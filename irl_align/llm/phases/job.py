"""What a phase is asked to do, in a file, and where it answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irl_align.core.files import atomic_write_json

__all__ = ["PhaseJob", "result_path"]


@dataclass(frozen=True)
class PhaseJob:
    """One phase: `name` (a key of `phases.table.PHASES`, or of the launcher's handlers), resolved
    configuration, named input paths, the folder to write into and the phase's seed."""

    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    out: str
    seed: int
    round: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        atomic_write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> PhaseJob:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def result_path(job_file: Path, rank: int) -> Path:
    return job_file.with_suffix(f".result-{rank}.json")
