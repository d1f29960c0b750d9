"""The leaderboard from a model folder to a table: one task after the other, each kept when done."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, atomic_write_text, sha256_file
from irl_align.core.loggers import ConsoleLogger
from irl_align.core.provenance import config_hash
from irl_align.evaluation.bootstrap import Interval, bootstrap_mean, pad_ragged
from irl_align.evaluation.leaderboard.harness import (
    Harness,
    ItemValue,
    require_lm_eval,
    template_folder,
)
from irl_align.evaluation.leaderboard.local import LocalData, parse_data, write_local_tasks
from irl_align.evaluation.leaderboard.tasks import TASKS, LeaderboardTask, choose_tasks
from irl_align.evaluation.store import (
    DataRecord,
    Evaluation,
    evaluation_folder,
    identify_model,
    save_evaluation,
)
from irl_align.llm.policy.artefacts import PolicyRef

__all__ = ["LeaderboardOptions", "run_leaderboard", "task_interval"]


@dataclass(frozen=True)
class LeaderboardOptions:
    """What `eval/leaderboard.py` was asked for; see its help."""

    model: Path
    tasks: Sequence[str] | None = None
    data: Sequence[str] = ()
    limit: int | None = None
    backend: str = "auto"
    dtype: str = "bfloat16"
    batch_size: int = 8
    max_length: int | None = None
    chat_template: bool = False
    seed: int = 0
    out: Path | None = None


def run_leaderboard(
    options: LeaderboardOptions, harness: Callable[..., Harness] = Harness
) -> tuple[Evaluation, str]:
    """The saved result, and what to show. Everything that can be wrong is checked before the model
    is loaded; killed and started again it goes on with the first task that is not done."""
    tasks = choose_tasks(options.tasks)
    data = parse_data(options.data)
    unused = [name for name in data if name not in {task.name for task in tasks}]
    if unused:
        raise UserError(f"--data: {unused[0]} is not among --tasks")
    for name in ("limit", "batch_size", "max_length"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
    require_lm_eval()
    if not options.model.is_dir():
        raise UserError(f"{options.model}: no such folder; give a policy's or model's folder")
    policy = PolicyRef.at(options.model)
    folder = evaluation_folder(options.model, options.out)
    backend = _backend(options.backend)
    shots = {task.name: _shots(task, data) for task in tasks}
    record = Evaluation(
        kind="leaderboard",
        model=identify_model(policy.model, shown=str(options.model)),
        data=_data_record(data, tasks),
        settings={
            "tasks": shots,
            "local": sorted(data),
            "limit": options.limit,
            "backend": backend,
            "dtype": options.dtype,
            "batch_size": options.batch_size,
            "max_length": options.max_length,
            "chat_template": options.chat_template,
        },
        seed=options.seed,
    )
    loaded: list[Harness] = []

    def model() -> Harness:
        if not loaded:
            made = harness(
                policy.model,
                backend=backend,
                dtype=options.dtype,
                batch_size=options.batch_size,
                chat_template=options.chat_template,
                max_length=options.max_length,
            )
            loaded.append(made)
        return loaded[0]

    values: dict[str, list[ItemValue]] = {}
    with ConsoleLogger().progress("leaderboard tasks", total=len(tasks)) as bar:
        for task in tasks:
            values[task.name] = _run_task(
                task, shots[task.name], data, options, record, model, folder
            )
            bar.advance(1)
    metrics = _metrics(values, seed=options.seed)
    atomic_write_text(
        folder / record.items_name,
        "".join(
            json.dumps({"task": name, **asdict(v)}, ensure_ascii=False) + "\n"
            for name, items in values.items()
            for v in items
        ),
    )
    done = replace(
        record,
        data=replace(record.data, items=sum(map(len, values.values()))),
        metrics=metrics,
        headline=("average", *(f"task/{name}" for name in values)),
        items=record.items_name,
        notes=_notes(options, tasks, shots),
    )
    path = save_evaluation(folder, done)
    lines = [f"Open LLM Leaderboard tasks of {options.model}, {backend}, {options.dtype}", ""]
    lines.append(f"{'task':<16}{'shots':>6}  {'metric':<12}{'items':>6}  value [95% interval]")
    lines += [
        f"{t.name:<16}{shots[t.name]:>6}  {t.metric:<12}{len(values[t.name]):>6}  "
        f"{metrics[f'task/{t.name}']}"
        for t in tasks
    ]
    lines.append(f"{'average':<42}  {metrics['average']:.3f}")
    lines += [f"note: {note}" for note in done.notes]
    return done, "\n".join([*lines, f"result: {path}"])


def _run_task(
    task: LeaderboardTask,
    shots: int,
    data: LocalData,
    options: LeaderboardOptions,
    record: Evaluation,
    model: Callable[[], Harness],
    folder: Path,
) -> list[ItemValue]:
    """From the part that an earlier run left, or from lm-eval."""
    decides = {
        "model": record.model.sha256,
        "task": [task.name, shots],
        "data": _hashes(data.get(task.name, {})),
        "settings": {k: v for k, v in record.settings.items() if k not in ("tasks", "local")},
    }
    part = folder / "parts" / f"leaderboard-{task.name}-{config_hash(decides)[:12]}.json"
    if part.exists():
        try:
            return [ItemValue(**row) for row in json.loads(part.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise UserError(f"{part} is damaged ({error}); delete it and run again") from error
    harness = model()
    with tempfile.TemporaryDirectory() as aside:
        local = Path(aside) if task.name in data else None
        names = [task.name]
        if local is not None:
            names = write_local_tasks(task, data[task.name], template_folder(), local)
        items = harness.run(task, names, shots, limit=options.limit, tasks=local)
    part.parent.mkdir(exist_ok=True)
    atomic_write_json(part, [asdict(item) for item in items])
    return items


def task_interval(task: LeaderboardTask, items: Sequence[ItemValue], seed: int = 0) -> Interval:
    """The task's value in [0, 1]: the mean over items, for MMLU the mean of the subjects' means.

    The interval resamples items, for MMLU whole subjects.
    """
    if task.name != "mmlu":
        return bootstrap_mean([item.value for item in items], seed=seed)
    subjects: dict[str, list[float]] = {}
    for item in items:
        subjects.setdefault(item.subtask, []).append(item.value)
    return bootstrap_mean(pad_ragged(list(subjects.values())), seed=seed)


def _metrics(values: Mapping[str, Sequence[ItemValue]], seed: int) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        f"task/{name}": task_interval(TASKS[name], items, seed) for name, items in values.items()
    }
    average = sum(interval.mean for interval in metrics.values()) / len(metrics)
    return {"average": average, **metrics}


def _backend(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import importlib.metadata

    import torch

    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return "hf"
    return "vllm" if torch.cuda.is_available() else "hf"


def _shots(task: LeaderboardTask, data: LocalData) -> int:
    local = data.get(task.name)
    return task.shots if local is None or task.shot_split in local else 0


def _hashes(splits: Mapping[str, Path]) -> dict[str, str]:
    return {split: sha256_file(path) for split, path in sorted(splits.items())}


def _data_record(data: LocalData, tasks: Sequence[LeaderboardTask]) -> DataRecord:
    sources = [str(path) for splits in data.values() for path in splits.values()]
    hub = [task.name for task in tasks if task.name not in data]
    if hub:
        sources.append(f"hub data sets of {', '.join(hub)}, as lm-eval names them")
    hashes = {name: _hashes(splits) for name, splits in sorted(data.items())}
    return DataRecord("; ".join(sources), sha256=config_hash(hashes) if hashes else None)


def _notes(
    options: LeaderboardOptions, tasks: Sequence[LeaderboardTask], shots: Mapping[str, int]
) -> list[str]:
    notes = []
    missing = [name for name in TASKS if name not in {task.name for task in tasks}]
    if missing:
        notes.append(
            f"WARNING: {', '.join(missing)} missing: the average is over {len(tasks)} tasks and is "
            "not the leaderboard's"
        )
    fewer = [f"{t.name} (0 instead of {t.shots})" for t in tasks if shots[t.name] != t.shots]
    if fewer:
        notes.append(
            f"WARNING: no worked examples for {', '.join(fewer)}, since --data gives no split of "
            "them: not the leaderboard's numbers"
        )
    if options.limit is not None:
        notes.append(f"WARNING: the first {options.limit} items of each task only")
    if options.chat_template:
        notes.append("with the chat template, which the leaderboard did not use")
    return notes
