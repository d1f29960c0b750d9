"""One file a result: what was evaluated, on what, how, and the numbers with their intervals.

Every evaluation (RewardBench, human pairs, MT-Bench, win rate, leaderboard) writes the same JSON,
so that a report can show and a table can compare what different programs measured::

    record = Evaluation(
        kind="rewardbench",
        model=identify_model(folder),
        data=DataRecord("allenai/reward-bench", sha256=..., revision=..., items=2985),
        settings={"scorer": "reward", "dtype": "float32", "limit": None},
        seed=0,
    )
    folder = evaluation_folder(model_folder, out)         # RUN/evaluations, ./evaluations or --out
    items = folder / record.items_name                    # per-item rows, if there are any
    path = save_evaluation(folder, replace(record, metrics=..., headline=("average",)))

What decides the numbers (model, data, judge, settings, seed) is hashed into the file's name. The
same evaluation again replaces its file; another one never does. Knows core only, so that the
report of a run may read it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.files import FileRecord, atomic_write_json, sha256_file
from irl_align.core.provenance import config_hash, git_revision, versions
from irl_align.evaluation.bootstrap import Interval

__all__ = [
    "FOLDER_NAME",
    "DataRecord",
    "Evaluation",
    "ModelRecord",
    "evaluation_folder",
    "identify_model",
    "load_evaluation",
    "load_evaluations",
    "model_hash",
    "run_of",
    "save_evaluation",
]

FOLDER_NAME = "evaluations"
_FORMAT = 1
# What decides a model's numbers: weights, configuration, tokenizer, chat template, remote code.
_MODEL_SUFFIXES = {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py", ".gguf"}
_PROBES = {"reward_probe.json", "probe.json"}
_KEY_LENGTH = 12

Number = float | int
Metric = Number | Interval | Mapping[str, Number] | None


@dataclass(frozen=True)
class ModelRecord:
    """Which weights: `path` as the user wrote it, `sha256` of what decides the model's numbers
    (see :func:`model_hash`; None behind an endpoint), `revision` of a hub repository."""

    path: str
    sha256: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class DataRecord:
    """Which items: a file or a hub name, the hash of its bytes (of its rows for a hub name), and
    how many items of it were used."""

    source: str
    sha256: str | None = None
    revision: str | None = None
    split: str | None = None
    items: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """One result.

    Attributes:
        kind: which evaluation, a file-name-like word ("rewardbench", "mt_bench").
        model: what was evaluated; `others` what else took part ("reference", "opponent").
        settings: everything a repetition needs (scorer, dtype, template hash, limit, ...).
        judge: who judged ("model", "endpoint", "version", ...); None without a judge. No keys.
        metrics: name -> number, or an interval {"mean", "low", "high"}, or None where it does not
            exist. Names with a slash are parts: "section/chat", "category/math", "turn/1".
        headline: the metrics that a table of runs shows, the most important first.
        items: name of the per-item file beside the result; None without one.
        notes: sentences a reader must know (what was left out, what is not comparable).
        date, versions, git: filled in when made.
    """

    kind: str
    model: ModelRecord
    data: DataRecord
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    judge: Mapping[str, Any] | None = None
    others: Mapping[str, ModelRecord] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    headline: Sequence[str] = ()
    items: str | None = None
    notes: Sequence[str] = ()
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    versions: Mapping[str, str] = field(default_factory=versions)
    git: str | None = field(default_factory=git_revision)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", self.kind):
            raise ValueError(f"kind {self.kind!r}: use a-z, 0-9 and _")
        missing = [name for name in self.headline if name not in self.metrics]
        if missing:
            raise ValueError(f"headline {missing[0]!r} is no metric of this evaluation")

    @property
    def key(self) -> str:
        """12 hex digits of a hash over all that decides the numbers; paths, dates and versions do
        not count where a content hash stands for them."""
        decides = {
            "kind": self.kind,
            "models": [
                [name, record.sha256 or record.path, record.revision]
                for name, record in [("", self.model), *sorted(self.others.items())]
            ],
            "data": [self.data.sha256 or self.data.source, self.data.revision, self.data.split],
            "settings": dict(self.settings),
            "judge": dict(self.judge) if self.judge is not None else None,
            "seed": self.seed,
        }
        return config_hash(decides)[:_KEY_LENGTH]

    @property
    def name(self) -> str:
        """The result's file name."""
        return f"{self.kind}-{self.key}.json"

    @property
    def items_name(self) -> str:
        """The name for this evaluation's per-item rows, beside the result."""
        return f"{self.kind}-{self.key}.items.jsonl"

    def estimate(self, name: str) -> Interval | float | None:
        """A metric as an `Interval` or a number; None when it does not exist."""
        value = self.metrics.get(name)
        if isinstance(value, Mapping):
            return Interval(float(value["mean"]), float(value["low"]), float(value["high"]))
        return value if value is None or isinstance(value, Interval) else float(value)

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, as they stand in the file."""
        plain = asdict(self) | {"headline": list(self.headline), "notes": list(self.notes)}
        plain["metrics"] = {
            name: value.as_dict() if isinstance(value, Interval) else value
            for name, value in self.metrics.items()
        }
        return {"format": _FORMAT, "key": self.key, **plain}


def model_hash(files: Mapping[str, FileRecord]) -> str:
    """SHA-256 over name, size and hash of the files of a model folder that decide its numbers.

    `files` as `sha256_tree` gives them, so that the record of a committed phase will do as well as
    the folder itself. Files in sub-folders, read-me files and probes do not count.
    """
    return config_hash({name: record for name, record in files.items() if _counts(name)})


def _counts(name: str) -> bool:
    path = Path(name)
    return (
        len(path.parts) == 1
        and not name.startswith(".")
        and path.suffix in _MODEL_SUFFIXES
        and name not in _PROBES
    )


def identify_model(
    folder: Path, *, shown: str | None = None, revision: str | None = None
) -> ModelRecord:
    """Hash a model folder. `shown`: how the user named it (a hub name), when not by its folder.

    Raises UserError when the folder holds no model.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no model: there is no config.json in it")
    files: dict[str, FileRecord] = {
        item.name: {"size": item.stat().st_size, "sha256": sha256_file(item)}
        for item in sorted(folder.iterdir())
        if item.is_file() and _counts(item.name)
    }
    return ModelRecord(shown or str(folder), model_hash(files), revision)


def run_of(path: Path) -> Path | None:
    """The run directory that `path` lies in; None outside of runs."""
    for folder in path.resolve().parents:
        if (folder / "config.yaml").is_file() and (folder / "run.json").is_file():
            return folder
    return None


def evaluation_folder(model: Path | None, out: Path | None = None) -> Path:
    """Where results go: `out`, else RUN/evaluations for a model of a run, else ./evaluations.

    Creates it. Raises UserError when it cannot be written, so call it before models are loaded.
    """
    run = run_of(model) if model is not None else None
    folder = out or (run or Path()) / FOLDER_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        raise UserError(f"--out {folder} is a file; give a folder for the results") from error
    except OSError as error:
        raise UserError(
            f"results cannot be written to {folder} ({error.strerror}); choose another --out"
        ) from error
    return folder


def save_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write the result into `folder` under its own name, whole or not at all; returns the path."""
    path = folder / evaluation.name
    atomic_write_json(path, evaluation.as_dict())
    return path


def load_evaluation(path: Path) -> Evaluation:
    """Read one result; UserError naming the file when it is damaged or of a newer format."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.pop("format") != _FORMAT:
            raise UserError(f"{path} was written by another version of irl_align; evaluate again")
        plain.pop("key")
        metrics = plain["metrics"]
        for name, value in metrics.items():
            if isinstance(value, dict):
                metrics[name] = Interval(**value)
            elif value is not None and not isinstance(value, int | float):
                raise TypeError(f"metric {name!r} is {value!r}")
        plain["model"] = ModelRecord(**plain["model"])
        plain["data"] = DataRecord(**plain["data"])
        plain["others"] = {name: ModelRecord(**other) for name, other in plain["others"].items()}
        return Evaluation(**plain)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read as a result ({type(error).__name__}: {error}); delete it and "
            "run the evaluation again"
        ) from error


def load_evaluations(folder: Path) -> tuple[list[Evaluation], dict[str, str]]:
    """All results in `folder`, oldest first, and what is wrong with unreadable ones, by name.

    A folder that does not exist holds none.
    """
    found: list[Evaluation] = []
    problems: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            found.append(load_evaluation(path))
        except UserError as error:
            problems[path.name] = str(error)
    return sorted(found, key=lambda e: (e.date, e.kind, e.key)), problems
