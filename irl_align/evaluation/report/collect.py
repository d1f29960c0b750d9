"""What a run directory holds, gathered for readers: status, measures, samples, lineage.

Reads only, takes no lock and never trusts that a file is there: a run may be unfinished, killed
in the middle of a phase, or of another domain without completions. `irl-align runs` and the HTML
report both show what this module returns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irl_align.core.committed import RECORD
from irl_align.core.config import read_yaml
from irl_align.core.errors import UserError
from irl_align.core.provenance import config_hash
from irl_align.core.run import DONE, FOLDERS
from irl_align.evaluation.bootstrap import Interval
from irl_align.evaluation.report.status import Status, read_status
from irl_align.evaluation.store import model_hash


@dataclass(frozen=True)
class Estimate:
    """A mean; `low` and `high` are None when nobody computed an interval."""

    mean: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def parse(cls, value: Any) -> Estimate | None:
        """From a number or `{"mean", "low", "high"}`; None for anything else."""
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return cls(float(value))
        if isinstance(value, Interval):
            return cls(value.mean, value.low, value.high)
        if isinstance(value, Mapping):
            mean, low, high = (_number(value.get(key)) for key in ("mean", "low", "high"))
            return None if mean is None else cls(mean, low, high)
        return None


@dataclass(frozen=True)
class CommittedPhase:
    """A phase on disk: where it lies, what it cost, and a hash of everything it wrote."""

    name: str
    folder: Path
    metrics: dict[str, float]
    seconds: float | None
    seed: int | None
    digest: str | None
    size: int  # bytes
    model_hash: str | None = None  # as in results of evaluations (store.model_hash)


@dataclass(frozen=True)
class Stage:
    """Something that was measured: `base`, `sft` or one round (then `round` is its number)."""

    name: str
    round: int | None
    done: bool
    metrics: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, CommittedPhase] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    completions: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        if self.round is not None:
            return f"round {self.round}"
        return "SFT" if self.name == "sft" else self.name


@dataclass(frozen=True)
class RunView:
    path: Path
    status: Status
    config: dict[str, Any]
    config_text: str
    info: dict[str, Any]
    results: dict[str, Any]
    setup: dict[str, Stage]
    rounds: list[Stage]

    @property
    def stages(self) -> list[Stage]:
        """base, sft and any other setup stage that was measured, then the rounds."""
        known = [self.setup[name] for name in ("base", "sft") if name in self.setup]
        other = [stage for name, stage in self.setup.items() if name not in ("base", "sft")]
        measured = [stage for stage in other if stage.completions]
        return known + measured + self.rounds


def is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def collect_run(path: Path, *, completions: bool = True) -> RunView:
    """Everything there is to show about the run in `path`.

    `completions=False` skips the evaluation texts (a listing needs none of them).
    Raises UserError when `path` is not a run directory, or one of its files cannot be read.
    """
    if not path.is_dir():
        raise UserError(f"no run at {path}: there is no such folder (`irl-align runs` lists them)")
    if not is_run(path):
        raise UserError(
            f"{path} is not a run: it holds no config.yaml. Give the folder that was its run_dir"
        )
    config = read_yaml(path / "config.yaml")
    results = _read_json(path / "results.json")
    setup = _read_setup(path, results, completions)
    rounds = _read_rounds(path, results, completions)
    return RunView(
        path=path,
        status=read_status(path, config, results),
        config=config,
        config_text=_read_text(path / "config.yaml") or "",
        info=_read_json(path / "run.json"),
        results=results,
        setup=setup,
        rounds=rounds,
    )


def list_runs(root: Path) -> tuple[list[RunView], dict[str, str]]:
    """Every run directly under `root` in order of name, and what is wrong with unreadable ones."""
    found: list[RunView] = []
    problems: dict[str, str] = {}
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.is_dir() and is_run(path):
            try:
                found.append(collect_run(path, completions=False))
            except UserError as error:
                problems[path.name] = str(error)
    return found, problems


def as_json(view: RunView) -> dict[str, Any]:
    """Plain containers: everything but the texts, for programs (`irl-align runs RUN --json`)."""

    def stage_json(stage: Stage) -> dict[str, Any]:
        phases = {
            name: asdict(phase) | {"folder": relative_path(phase.folder, view.path)}
            for name, phase in stage.phases.items()
        }
        plain = {
            "name": stage.name,
            "round": stage.round,
            "done": stage.done,
            "metrics": stage.metrics,
            "phases": phases,
            "manifest": stage.manifest,
        }
        return {key: value for key, value in plain.items() if value is not None}

    return {
        "run": str(view.path),
        "status": asdict(view.status),
        "info": view.info,
        "config": view.config,
        "setup": [stage_json(stage) for stage in view.setup.values()],
        "rounds": [stage_json(stage) for stage in view.rounds],
        "results": view.results,
    }


def _read_setup(path: Path, results: Mapping[str, Any], texts: bool) -> dict[str, Stage]:
    names = [name for name in ("base", "sft") if isinstance(results.get(name), Mapping)]
    folder = path / "setup"
    if folder.is_dir():
        names += [item.name for item in sorted(folder.iterdir()) if item.name not in names]
    setup = {}
    for name in names:
        if name.startswith(".") or not ((folder / name).is_dir() or name in results):
            continue
        phase = _read_phase(name, folder / name)
        reported = results.get(name)
        setup[name] = Stage(
            name=name,
            round=None,
            done=phase is not None,
            metrics=dict(phase.metrics) if phase else {},
            results=dict(reported) if isinstance(reported, Mapping) else {},
            phases={name: phase} if phase else {},
            completions=_read_completions(folder / name / "completions.jsonl") if texts else {},
        )
    return setup


def _read_rounds(path: Path, results: Mapping[str, Any], texts: bool) -> list[Stage]:
    """Rounds with a folder, and those of which only metrics.jsonl tells (save_every > 1)."""
    folder = path / "rounds"
    folders = {
        int(item.name): item
        for item in (folder.iterdir() if folder.is_dir() else ())
        if item.is_dir() and item.name.isdigit()
    }
    logged = _read_log(path / "metrics.jsonl")
    reported = results.get("rounds")
    reported_by_round = {
        row.get("round", place): row
        for place, row in enumerate(reported if isinstance(reported, list) else [])
        if isinstance(row, Mapping)
    }
    rounds = []
    for index in sorted(folders.keys() | logged.keys()):
        item = folders.get(index, folder / f"{index:04d}")
        phases: dict[str, CommittedPhase] = {}
        for name, place in FOLDERS.items():
            phase = _read_phase(name, item / place)
            if phase is not None:
                phases[name] = phase
        metrics: dict[str, Any] = dict(logged.get(index, {}))
        for phase in phases.values():
            metrics.update(phase.metrics)
        metrics.update(_read_json(item / "metrics.json"))
        texts_path = item / FOLDERS["evaluate"] / "completions.jsonl"
        rounds.append(
            Stage(
                name=item.name,
                round=index,
                done=(item / DONE).exists(),
                metrics=metrics,
                results=dict(reported_by_round.get(index, {})),
                phases=phases,
                manifest=_read_json(item / "manifest.json"),
                completions=_read_completions(texts_path) if texts else {},
            )
        )
    return rounds


def _read_log(path: Path) -> dict[int, dict[str, Any]]:
    """Rows of metrics.jsonl by round, up to a line that a crash has torn."""
    rows: dict[int, dict[str, Any]] = {}
    for line in (_read_text(path) or "").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if isinstance(row, dict) and isinstance(row.get("round"), int):
            rows[row.pop("round")] = row
    return rows


def _read_phase(name: str, folder: Path) -> CommittedPhase | None:
    path = folder / RECORD
    if not path.is_file():
        return None
    record = _read_json(path)
    files = record.get("files")
    files = files if isinstance(files, Mapping) else {}
    metrics = record.get("metrics")
    seed = record.get("seed")
    return CommittedPhase(
        name=name,
        folder=folder,
        metrics=dict(metrics) if isinstance(metrics, Mapping) else {},
        seconds=_number(record.get("seconds")),
        seed=seed if isinstance(seed, int) else None,
        # The same hash as a manifest's, so that a chain can be followed by eye.
        digest=config_hash(files) if files else None,
        size=sum(int(item.get("size", 0)) for item in files.values()),
        model_hash=_model_hash(files),
    )


def _model_hash(files: Mapping[str, Any]) -> str | None:
    """Of the model folder inside a phase's folder, from the record alone; None without one."""
    prefix = "model/"
    inside = {name.removeprefix(prefix): v for name, v in files.items() if name.startswith(prefix)}
    return model_hash(inside) if inside else None


def _read_completions(path: Path) -> dict[str, dict[str, Any]]:
    return {str(row.get("id", number)): row for number, row in enumerate(_read_rows(path))}


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    text = _read_text(path)
    for number, line in enumerate((text or "").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number}: not JSON ({error.msg}). Delete the folder of this phase "
                "and run the same command again to redo it"
            ) from error
        if isinstance(row, dict):
            yield row


def completions_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The completions of one row of completions.jsonl; an ill-formed row has none."""
    items = row.get("completions")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); it is damaged") from error


def _read_json(path: Path) -> dict[str, Any]:
    text = _read_text(path)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); the file is damaged. "
            "Delete the folder that holds it and run the same command again to redo it"
        ) from error
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def relative_path(path: Path, root: Path) -> str:
    """`path` as seen from `root` where it lies inside, else as it is."""
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
