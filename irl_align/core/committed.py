"""Folders that are committed in full or not at all, and can prove that nothing in them changed.

Work goes into ``.NAME.partial/``; the commit adds phase.json (metrics and the hash of every file),
syncs and renames to ``NAME/``. A partial folder is what a crash left: it is removed when the work
begins again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, commit_folder, sha256_file, sha256_tree
from irl_align.core.protocols import Metrics

RECORD = "phase.json"


def begin(final: Path) -> Path:
    """The empty partial folder of `final`. Raises FileExistsError when that is committed."""
    if final.exists():
        raise FileExistsError(f"{final} is committed already")
    partial = _partial(final)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial


def commit(
    final: Path, record: Mapping[str, Any], metrics: Metrics, extra: Mapping[str, Any] | None
) -> Path:
    """Close the partial folder of `final` with its record; returns `final`."""
    partial = _partial(final)
    files = sha256_tree(partial)
    whole = {**record, "metrics": dict(metrics), **(extra or {}), "files": files}
    atomic_write_json(partial / RECORD, whole)
    commit_folder(partial, final)
    return final


def record_of(folder: Path, mend: str) -> dict[str, Any]:
    """phase.json of a committed folder. UserError, ending in `mend`, when missing or damaged."""
    try:
        record = read_json(folder / RECORD)
    except UserError as error:
        raise UserError(f"{error}; {mend}") from None
    if not {"metrics", "files"} <= record.keys():
        raise UserError(f"{folder / RECORD} is damaged; {mend}")
    return record


def verify(folder: Path, mend: str) -> None:
    """Compare every file of a committed folder with its recorded size and hash.

    Raises UserError naming the first that is missing or differs, ending in `mend`.
    """
    for name, expected in record_of(folder, mend)["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; {mend}")
        size = path.stat().st_size
        if size != expected["size"]:
            raise UserError(
                f"{path} is damaged: {size} bytes, {expected['size']} were written; {mend}"
            )
        if sha256_file(path) != expected["sha256"]:
            raise UserError(f"{path} is damaged: its content is not what was written; {mend}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping. UserError when it is missing or does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no mapping")
    return cast(dict[str, Any], content)


def _partial(final: Path) -> Path:
    return final.with_name(f".{final.name}.partial")
