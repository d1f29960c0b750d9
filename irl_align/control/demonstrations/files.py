"""From a path or a name to trajectories: which kind of file it is, and what is wrong with it."""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from irl_align.control.demonstrations.columns import split_columns
from irl_align.control.demonstrations.episodes import read_json_episodes, split_episodes
from irl_align.control.demonstrations.raw import RawFile
from irl_align.core.errors import UserError

MINARI = "minari:"
ACCEPTED = (
    ".npz, .hdf5 or .h5 (D4RL keys or Minari's), .jsonl or .json episodes (also .gz), a folder "
    "with observations.npy and actions.npy, a Minari data set's folder, or minari:NAME"
)
_SUFFIXES = (".npz", ".hdf5", ".h5", ".jsonl", ".json", ".jsonl.gz", ".json.gz")


def read_source(source: str) -> RawFile:
    """Everything that `source` holds, unchecked. Raises UserError naming it and the mend."""
    if source.startswith(MINARI):
        return _read_minari_name(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_folder(source, path)
    if not path.exists():
        raise UserError(f"{source}: no such file{_nearest(path)} (accepted: {ACCEPTED})")
    if path.stat().st_size == 0:
        raise UserError(f"{source}: the file is empty")
    readers: dict[str, Callable[[str, Path], RawFile]] = {
        ".npz": _read_npz,
        ".hdf5": _read_hdf5,
        ".h5": _read_hdf5,
    }
    suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        advice = (
            "; a pickle can run code when it is read: save its arrays with numpy.savez"
            if path.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth")
            else ""
        )
        raise UserError(
            f"{source}: unknown file type {path.suffix!r}{advice} (accepted: {ACCEPTED})"
        )
    try:
        return readers.get(suffix, read_json_episodes)(source, path)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from error


def _nearest(path: Path) -> str:
    """Names that a missing one may be a slip of: in its folder, or of the folder itself."""
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist"
    near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=1, cutoff=0.5)
    return f"; is it a slip of {near[0]!r}?" if near else ""


def _read_npz(source: str, path: Path) -> RawFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {key: _member(archive, key, source) for key in archive.files}
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise UserError(f"{source}: not a readable npz file: {error}; copy it again") from error
    file = split_columns(columns, source)
    file.metadata = _metadata(columns.get("metadata"))
    return file


def _member(archive: Any, key: str, source: str) -> Any:
    try:
        return archive[key]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise UserError(
            f"{source}: {key!r} holds Python objects, must be numbers; save plain arrays (one row "
            "a step, with 'lengths')"
        ) from error


def _metadata(text: Any) -> dict[str, Any]:
    """The JSON object under `metadata` that our own files have; anything else says nothing."""
    try:
        found = json.loads(str(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read_hdf5(source: str, path: Path) -> RawFile:
    h5py = _h5py(source)
    try:
        with h5py.File(path, "r") as file:
            numbered = {
                int(name.removeprefix("episode_")): file[name]
                for name in file
                if name.removeprefix("episode_").isdecimal()
            }
            if numbered and "observations" not in file:
                episodes = [_group(numbered[number], h5py) for number in sorted(numbered)]
                return split_episodes(episodes, source)
            return split_columns(_group(file, h5py), source)
    except OSError as error:  # h5py's only word for a file that is damaged or something else
        raise UserError(f"{source}: not a readable HDF5 file: {error}") from error


def _group(group: Any, h5py: Any) -> dict[str, Any]:
    """The arrays of a group. Sub-groups (infos) are left out; where they stand for observations or
    actions they come as mappings, which are refused with a hint."""
    return {
        name: value[()] if isinstance(value, h5py.Dataset) else dict.fromkeys(value)
        for name, value in group.items()
        if isinstance(value, h5py.Dataset) or name in ("observations", "actions")
    }


def _h5py(source: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{source}: reading HDF5 needs h5py: pip install h5py") from error
    return h5py


def _read_folder(source: str, path: Path) -> RawFile:
    for data in (path / "data", path):
        if (data / "metadata.json").exists():
            return _read_minari(source, data)
    arrays = {file.stem: file for file in sorted(path.glob("*.npy"))}
    if not arrays:
        raise UserError(f"{source}: a folder without .npy files or a Minari data set in it")
    columns = {}
    for name, file in arrays.items():
        try:
            columns[name] = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(f"{file}: not a readable array of numbers: {error}") from error
    return split_columns(columns, source)


def _read_minari_name(source: str) -> RawFile:
    minari = _minari(source)
    name = source.removeprefix(MINARI)
    try:
        local = minari.list_local_datasets()
    except OSError as error:
        raise UserError(f"{source}: Minari's folder cannot be read: {error}") from error
    if name not in local:
        near = difflib.get_close_matches(name, list(local), n=1, cutoff=0.4)
        hint = f"; is it a slip of {near[0]!r}?" if near else ""
        raise UserError(
            f"{source}: no such data set on this machine{hint} "
            f"(get it with: minari download {name})"
        )
    return _episodes_of(minari.load_dataset(name), source)


def _read_minari(source: str, data: Path) -> RawFile:
    minari = _minari(source)
    try:
        return _episodes_of(minari.MinariDataset(data), source)
    except (ValueError, KeyError, AssertionError, OSError) as error:
        raise UserError(f"{source}: not a readable Minari data set: {error}") from error


def _episodes_of(dataset: Any, source: str) -> RawFile:
    file = split_episodes(dataset.iterate_episodes(), source)
    spec = dataset.spec.env_spec
    file.metadata = {"environment": spec.id} if spec is not None else {}
    return file


def _minari(source: str) -> Any:
    try:
        import minari
    except ImportError as error:
        raise UserError(
            f"{source}: Minari data sets need minari: pip install 'irl-align[control]'"
        ) from error
    return minari
