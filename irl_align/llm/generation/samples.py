"""Completions and the file that holds them between phases."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_bytes
from irl_align.llm.data.schema import Message

__all__ = [
    "SAMPLES_NAME",
    "Completion",
    "PromptSamples",
    "read_samples",
    "sample_metrics",
    "write_samples",
]

SAMPLES_NAME = "samples.jsonl.gz"


@dataclass
class Completion:
    """One sampled answer. `finish_reason`: "stop" (ended itself) or "length" (was cut off)."""

    text: str
    finish_reason: str
    tokens: int
    token_ids: list[int] = field(default_factory=list)  # kept in memory only
    scores: dict[str, float] = field(default_factory=dict)  # e.g. {"reward": 1.2}
    logprobs: list[float] | None = None  # of token_ids, by whoever sampled them; in memory only

    @property
    def finished(self) -> bool:
        return self.finish_reason == "stop"

    def as_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "tokens": self.tokens,
        }
        return row | self.scores


@dataclass
class PromptSamples:
    """All completions of one prompt; `skipped` says why there are none (an over-long prompt)."""

    id: str
    prompt: Sequence[Message]
    completions: list[Completion]
    skipped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": self.id,
            "prompt": [dict(m) for m in self.prompt],
            "completions": [c.as_dict() for c in self.completions],
        }
        return row | ({"skipped": self.skipped} if self.skipped else {})


def write_samples(path: Path, samples: Iterable[PromptSamples]) -> None:
    """Write one JSON line a prompt (gzip when the name ends in .gz); atomic, reproducible bytes."""
    text = "".join(json.dumps(s.as_dict(), ensure_ascii=False) + "\n" for s in samples)
    data = text.encode("utf-8")
    if path.suffix == ".gz":
        buffer = io.BytesIO()
        # A fixed time stamp: equal samples give equal bytes, so hashes can be compared.
        with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6) as out:
            out.write(data)
        data = buffer.getvalue()
    atomic_write_bytes(path, data)


def read_samples(path: Path) -> list[PromptSamples]:
    """Read what :func:`write_samples` wrote; clear error naming the row otherwise."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    samples = []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    known = {"text", "finish_reason", "tokens"}
                    completions = [
                        Completion(
                            c["text"],
                            c["finish_reason"],
                            int(c["tokens"]),
                            scores={k: v for k, v in c.items() if k not in known},
                        )
                        for c in row["completions"]
                    ]
                    samples.append(
                        PromptSamples(row["id"], row["prompt"], completions, row.get("skipped"))
                    )
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f"{path}, row {number}: not a row of samples ({error!r}); sample again"
                    ) from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); sample again") from error
    return samples


def sample_metrics(samples: Sequence[PromptSamples]) -> dict[str, float]:
    """`samples/{prompts,completions,length,eos_rate,duplicates,over_long_prompts}`.

    `length` is the mean number of tokens of a completion, `duplicates` the share of completions
    that repeat another one of the same prompt.
    """
    completions = [c for s in samples for c in s.completions]
    total = max(len(completions), 1)
    distinct = sum(len({c.text for c in s.completions}) for s in samples)
    return {
        "samples/prompts": float(len(samples)),
        "samples/completions": float(len(completions)),
        "samples/tokens": float(sum(c.tokens for c in completions)),
        "samples/length": sum(c.tokens for c in completions) / total,
        "samples/eos_rate": sum(c.finished for c in completions) / total,
        "samples/duplicates": (len(completions) - distinct) / total,
        "samples/over_long_prompts": float(sum(s.skipped is not None for s in samples)),
    }
