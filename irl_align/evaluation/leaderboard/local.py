"""Tasks on local files: lm-eval's own templates, pointed at data on this machine.

Without a split of worked examples a task is run with none: lm-eval would otherwise take them from
the questions that it is about to ask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_text
from irl_align.evaluation.leaderboard.tasks import TASKS, LeaderboardTask
from irl_align.llm.data.files import file_type
from irl_align.llm.data.rows import read_rows

__all__ = ["LocalData", "parse_data", "write_local_tasks"]

LocalData = dict[str, dict[str, Path]]  # task -> split -> file


def parse_data(options: Sequence[str]) -> LocalData:
    """`TASK.SPLIT=FILE`, any number of times. Every file is read and its columns are checked;
    raises `UserError` that names the option, or the file and row."""
    data: LocalData = {}
    for option in options:
        key, equals, file = option.partition("=")
        name, dot, split = key.partition(".")
        if not equals or not dot or not file:
            raise UserError(f"--data {option}: expected TASK.SPLIT=FILE")
        if name not in TASKS:
            raise UserError(
                f"--data {option}: there is no task {name!r}; known: {', '.join(TASKS)}"
            )
        task = TASKS[name]
        if split not in task.splits:
            raise UserError(f"--data {option}: {name} has the splits {', '.join(task.splits)}")
        if split in data.get(name, {}):
            raise UserError(f"--data {option}: {key} is given twice")
        path = Path(file)
        if not path.is_file():
            raise UserError(f"--data {option}: no such file")
        if file_type(path) not in (".jsonl", ".json", ".parquet"):
            raise UserError(f"--data {option}: a .jsonl, .jsonl.gz, .json or .parquet is needed")
        _check_columns(task, path)
        data.setdefault(name, {})[split] = path.resolve()
    for name, splits in data.items():
        if TASKS[name].split not in splits:
            raise UserError(f"--data: {name} needs {name}.{TASKS[name].split}=FILE, its questions")
    return data


def _check_columns(task: LeaderboardTask, path: Path) -> None:
    rows = 0
    for row in read_rows(str(path)):
        rows += 1
        missing = [column for column in task.columns if column not in row.fields]
        if missing:
            raise UserError(
                f"{path}: row {row.number}: no column {missing[0]!r}; {task.name} needs "
                f"{', '.join(task.columns)}"
            )
    if not rows:
        raise UserError(f"{path}: no rows")


def write_local_tasks(
    task: LeaderboardTask, splits: Mapping[str, Path], templates: Path, folder: Path
) -> list[str]:
    """Write lm-eval's task files for `task` on `splits` into `folder`; returns the tasks' names.

    `templates`: lm-eval's own folder of tasks. MMLU becomes one task a subject.
    """
    if task.name != "mmlu":
        _write_task(task, f"local_{task.name}", task.template, splits, templates, folder)
        return [f"local_{task.name}"]
    names = []
    for subject, files in _by_subject(splits, folder).items():
        template = task.template.format(subject=subject)
        if not (templates / template).is_file():
            raise UserError(f"{splits[task.split]}: MMLU has no subject {subject!r}")
        name = f"local_mmlu_{subject}"
        _write_task(task, name, template, files, templates, folder)
        names.append(name)
    return names


def _write_task(
    task: LeaderboardTask,
    name: str,
    template: str,
    splits: Mapping[str, Path],
    templates: Path,
    folder: Path,
) -> None:
    has_shots = task.shot_split in splits
    parquet = {file_type(path) == ".parquet" for path in splits.values()}
    if len(parquet) > 1:
        raise UserError(f"--data: the files of {task.name} must be of one type")
    config: dict[str, Any] = {
        "include": str(templates / template),
        "task": name,
        "tag": None,
        "dataset_path": "parquet" if parquet.pop() else "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(path) for split, path in splits.items()}},
        "training_split": "train" if has_shots and task.shot_split == "train" else None,
        "validation_split": task.split if task.split == "validation" else None,
        "test_split": task.split if task.split == "test" else None,
        "fewshot_split": task.shot_split if has_shots else None,
        "num_fewshot": task.shots if has_shots else 0,
    }
    if not has_shots:
        config["fewshot_config"] = None
    # JSON is YAML, too.
    atomic_write_text(folder / f"{name}.yaml", json.dumps(config, indent=1) + "\n")


def _by_subject(splits: Mapping[str, Path], folder: Path) -> dict[str, dict[str, Path]]:
    """MMLU's rows in files of one subject each, as its templates want them."""
    rows: dict[str, dict[str, list[str]]] = {}
    for split, path in splits.items():
        for row in read_rows(str(path)):
            lines = rows.setdefault(str(row.fields["subject"]), {}).setdefault(split, [])
            lines.append(json.dumps(row.fields, ensure_ascii=False) + "\n")
    found: dict[str, dict[str, Path]] = {}
    for subject, parts in sorted(rows.items()):
        lacking = [split for split in splits if split not in parts]
        if lacking:
            raise UserError(f"{splits[lacking[0]]}: no row of the subject {subject!r}")
        for split, lines in parts.items():
            target = folder / f"mmlu_{subject}.{split}.jsonl"
            atomic_write_text(target, "".join(lines))
            found.setdefault(subject, {})[split] = target
    return found
