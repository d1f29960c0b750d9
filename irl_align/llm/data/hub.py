"""Rows of `datasets` data sets: folders written by `save_to_disk`, and names on the hub.

The hub is asked once, briefly, whether it answers at all. The client's own retries take half a
minute or more to say that there is no network, which is long for a program that should stop on a
mistyped path. Without an answer only the local cache is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.llm.data.files import FILE_TYPES, Row, file_type

PROBE_SECONDS = 5.0


def read_saved_dataset(source: str, folder: Path, split: str | None) -> Iterator[Row]:
    """Rows of a `Dataset` or `DatasetDict` folder; memory-mapped, so never loaded whole."""
    if not (folder / "state.json").exists() and not (folder / "dataset_dict.json").exists():
        inside = sorted(p.name for p in folder.iterdir() if p.is_file() and file_type(p))
        hint = f"; it holds {', '.join(inside[:5])}: give one of these files" if inside else ""
        raise UserError(
            f"{source}: a folder, but not a data set written by datasets' save_to_disk{hint}"
            + ("" if inside else f"; give such a folder or a file ({FILE_TYPES})")
        )
    datasets = _import_datasets(source)
    try:
        data = datasets.load_from_disk(str(folder))
    except Exception as error:  # damaged JSON, missing Arrow files: the library raises anything
        raise UserError(f"{source}: the saved data set cannot be loaded: {error}") from error
    yield from _rows(source, data, split, datasets)


def read_hub_dataset(source: str, split: str | None) -> Iterator[Row]:
    """Rows of `org/name` or `org/name:config` on the hub, through the local cache.

    `org/name@revision` (a commit, before any `:config`) pins what may otherwise change.
    """
    path, _, config = source.partition(":")
    name, _, revision = path.partition("@")
    nothing_there = f"{source}: no such file or folder"
    accepted = f"accepted are files ({FILE_TYPES}), save_to_disk folders, and hub names (org/name)"
    if name.count("/") != 1:
        raise UserError(f"{nothing_there}, and not a hub name either; {accepted}")
    datasets = _import_datasets(source)
    offline = bool(datasets.config.HF_HUB_OFFLINE)
    reachable = not offline and _hub_answers(datasets.config.HF_ENDPOINT)
    try:
        with _cache_only(datasets, not reachable):
            pinned = {"revision": revision} if revision else {}
            data = datasets.load_dataset(name, config or None, **pinned)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(f"{nothing_there}, and the hub does not give it: {error}") from error
    except Exception as error:  # the library raises anything from OSError to ValueError
        if reachable:
            raise UserError(f"{source}: the hub data set cannot be loaded: {error}") from error
        why = (
            "offline mode is on (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE)"
            if offline
            else f"{datasets.config.HF_ENDPOINT} does not answer"
        )
        raise UserError(
            f"{nothing_there}, and as a hub name it is not in the local cache while {why}; "
            f"check the path or the network; {accepted}"
        ) from error
    yield from _rows(source, data, split, datasets)


def _import_datasets(source: str) -> Any:
    try:
        import datasets  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UserError(
            f"{source}: saved data sets and hub names need the package datasets: "
            "pip install datasets"
        ) from error
    return datasets


def _hub_answers(endpoint: str) -> bool:
    from huggingface_hub import get_session

    with suppress(Exception):  # the hub package changed its HTTP client, and the errors with it
        status: int = get_session().head(endpoint, timeout=PROBE_SECONDS).status_code
        return status < 500  # a proxy answers for a host that it cannot reach
    return False


@contextmanager
def _cache_only(datasets: Any, active: bool) -> Iterator[None]:
    """The library's own offline mode, which it otherwise reads once, from the environment."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or active
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _rows(source: str, data: Any, split: str | None, datasets: Any) -> Iterator[Row]:
    if isinstance(data, datasets.DatasetDict):
        names = list(data)
        if split is None and len(names) == 1:
            split = names[0]
        if split is None:
            raise UserError(f"{source}: has the splits {', '.join(names)}; name one with split=")
        if split not in data:
            raise UserError(f"{source}: has no split {split!r}; it has {', '.join(names)}")
        data = data[split]
    elif split is not None:
        raise UserError(f"{source}: one data set without splits; leave split={split!r} out")
    for number, fields in enumerate(data, start=1):
        yield Row(number, dict(fields), source)
