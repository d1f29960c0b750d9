"""Writing files so that a crash leaves either the old content or the new, and hashing them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypedDict

from irl_align.core.errors import naming


class FileRecord(TypedDict):
    """What identifies the content of one file; size in bytes, sha256 in hex."""

    size: int
    sha256: str


def _plain(value: Any) -> Any:
    """JSON for what metrics and manifests hold besides plain Python: numpy and torch scalars."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def to_json(obj: Any, *, indent: int | None = 2) -> str:
    """JSON text of plain containers, numpy or torch scalars and paths."""
    return json.dumps(obj, indent=indent, ensure_ascii=False, default=_plain)


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` (not the content of its files) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_open(path: Path) -> Iterator[IO[bytes]]:
    """Write ``path`` piece by piece; it gets its name when the block ends without an error.

    For content too large to hold as bytes. Readers and crashes see the old or the new content only.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path), open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; readers and crashes see the old or the new content only."""
    with atomic_open(path) as file:
        file.write(data)


def atomic_write_text(path: Path, text: str) -> None:
    """As :func:`atomic_write_bytes`, UTF-8."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, obj: Any) -> None:
    """As :func:`atomic_write_bytes`, indented JSON with a final newline."""
    atomic_write_text(path, to_json(obj) + "\n")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path) -> list[str]:
    """Every file under ``folder`` as sorted relative POSIX paths.

    Raises ValueError on a link to a folder: its content would escape the hashes.
    """
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                raise ValueError(f"{os.path.join(parent, name)} is a link to a folder; copy it")
        found += [Path(parent, name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def sha256_tree(folder: Path) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file under ``folder``, by relative POSIX path."""
    return {
        name: {"size": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in files_in(folder)
    }


def link_or_copy(source: str, target: str) -> None:
    """A second name for a file that nobody will change, or a copy where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def commit_folder(partial: Path, final: Path) -> None:
    """Give a finished folder its final name; after a crash it is there in full or not at all.

    Files and folders are synced first, so that the rename cannot reach the disk before them.
    Raises FileExistsError when ``final`` exists: a commit never overwrites.
    """
    if final.exists():
        raise FileExistsError(f"{final} is committed already")
    for parent, _, names in os.walk(partial, topdown=False):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(parent))
    os.rename(partial, final)
    fsync_folder(final.parent)
