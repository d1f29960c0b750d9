"""What a loader found: how many rows, how many of them usable, what is odd about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["demonstrations", "preferences", "prompts"]
SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class LengthSummary:
    """Quantiles of lengths, in characters or tokens (the name it is stored under tells)."""

    mean: float
    median: int
    p95: int
    max: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> LengthSummary:
        """Summary of at least one length."""
        values = np.asarray(lengths)
        median, p95 = np.quantile(values, [0.5, 0.95], method="higher")
        return cls(float(values.mean()), int(median), int(p95), int(values.max()))


@dataclass
class DataReport:
    """The result of reading one source. `rows` = `kept` + the sum of `dropped`."""

    source: str
    kind: Kind
    rows: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> number of rows; only ever filled with on_bad_rows="drop"."""
    problems: list[str] = field(default_factory=list)
    """The first five dropped rows: row numbers, key and mend, one entry per distinct message."""
    duplicates: int = 0
    """Rows that repeat an earlier row's prompt and responses exactly; they are kept."""
    distinct_prompts: int = 0
    shapes: dict[str, int] = field(default_factory=dict)
    """Columns that the rows were read from -> number of rows."""
    unused_columns: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sha256: str = ""
    """Of the file's bytes; for saved data sets and hub names of the kept rows."""
    lengths: dict[str, LengthSummary] = field(default_factory=dict)
    """Characters of "prompt" and of "response", or of "chosen" and "rejected"."""
    tokens: dict[str, LengthSummary] = field(default_factory=dict)
    """The same in tokens of a tokenizer, the whole conversation too; filled by `check_file`."""
    max_length: int | None = None
    over_max_length: int = 0
    """Records whose longest conversation has more than `max_length` tokens."""

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)

    def render(self) -> str:
        """The report as a few lines of text for a person."""
        lines = [f"{self.source}: {self.kept} {self.kind} from {self.rows} rows"]
        lines += [f"  read from  {shape} ({n} rows)" for shape, n in self.shapes.items()]
        if self.unused_columns:
            lines.append(f"  not used   {', '.join(self.unused_columns)}")
        if self.dropped:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self.dropped.items()))
            lines.append(f"  dropped    {sum(self.dropped.values())}: {counts}")
            lines += [f"             {problem}" for problem in self.problems]
        lines.append(f"  prompts    {self.distinct_prompts} distinct; {self.duplicates} duplicates")
        lines += _table("characters", self.lengths)
        lines += _table("tokens", self.tokens)
        if self.max_length is not None and self.tokens:
            lines.append(f"  too long   {self.over_max_length} over {self.max_length} tokens")
        lines += [f"  warning    {warning}" for warning in self.warnings]
        lines.append(f"  sha256     {self.sha256}")
        return "\n".join(lines)


def _table(unit: str, summaries: dict[str, LengthSummary]) -> list[str]:
    return [
        f"  {unit:<10} {name}: mean {s.mean:.0f}, median {s.median}, 95% {s.p95}, max {s.max}"
        for name, s in summaries.items()
    ]
