"""From one object an episode (a list in memory, JSON lines, Minari) to trajectories.

An episode is a mapping, or an object with attributes, that has `observations` [T + 1, O] and
`actions` [T, A], and may have `rewards` [T] and, once or once a step, `terminated` (`terminations`)
and `truncated` (`truncations`): what a Gymnasium loop records, and what Minari's buffers hold.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from irl_align.control.demonstrations.columns import ALIASES, missing_key
from irl_align.control.demonstrations.raw import RawFile, RawTrajectory, as_array
from irl_align.core.errors import UserError

_FLAGS = {
    "terminated": ("terminated", "terminations", "terminals"),
    "truncated": ("truncated", "truncations", "timeouts"),
}
_KNOWN = ("observations", "actions", "rewards")


def split_episodes(episodes: Iterable[Any], source: str) -> RawFile:
    """Trajectories of a sequence of episodes. Raises UserError naming the episode and the key."""
    file = RawFile([], {name: name for name in _KNOWN})
    unexplained = 0
    for number, episode in enumerate(episodes):
        where = f"{source}: episode {number}"
        fields = _fields(episode, where)
        values = {}
        for name in _KNOWN:
            key = next((alias for alias in ALIASES[name] if fields.get(alias) is not None), None)
            if key is None and name != "rewards":
                raise UserError(f"{where}: {missing_key(name, list(fields))}")
            if key is not None:
                file.keys[name] = key
                values[name] = _vector(fields[key], where, key)
        flags = {name: _flag(fields, name) for name in _FLAGS}
        unexplained += all(flag is None for flag in flags.values())
        terminated = bool(flags["terminated"])
        truncated = not terminated if flags["truncated"] is None else flags["truncated"]
        file.trajectories.append(
            RawTrajectory(
                values["observations"],
                values["actions"],
                values.get("rewards"),
                terminated,
                bool(truncated) or not terminated,
            )
        )
    if unexplained:
        file.warnings.append(
            f"{unexplained} episodes do not say how they ended ('terminated', 'truncated'); taken "
            "as cut by a time limit"
        )
    return file


def read_json_episodes(source: str, path: Path) -> RawFile:
    """`.jsonl` with one episode a line, or `.json` with a list of them; both also as `.gz`."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            if path.name.removesuffix(".gz").endswith(".json"):
                episodes = json.load(file)
                if not isinstance(episodes, list):
                    raise UserError(f"{source}: must be a list of episodes")
            else:
                episodes = list(_lines(source, file))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: broken JSON: {error}") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"{source}: the compressed file is damaged ({error})") from error
    return split_episodes(episodes, source)


def _lines(source: str, file: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{source}: line {number}: broken JSON at column {error.colno}: {error.msg}"
            ) from error


def _fields(episode: Any, where: str) -> Mapping[str, Any]:
    if isinstance(episode, Mapping):
        return episode
    names = {*(alias for name in _KNOWN for alias in ALIASES[name]), *sum(_FLAGS.values(), ())}
    fields = {name: getattr(episode, name) for name in names if hasattr(episode, name)}
    if not fields:
        raise UserError(
            f"{where}: is {type(episode).__name__}, must be an object with observations and actions"
        )
    return fields


def _vector(value: Any, where: str, key: str) -> Any:
    if isinstance(value, Mapping) or (isinstance(value, tuple) and key != "rewards"):
        raise UserError(
            f"{where}: {key!r} has several parts ({type(value).__name__}), must be one vector a "
            "step; flatten them (gymnasium.wrappers.FlattenObservation)"
        )
    return as_array(value)


def _flag(fields: Mapping[str, Any], name: str) -> bool | None:
    """Whether the episode ended this way: the flag itself, or the last one of a flag a step."""
    for key in _FLAGS[name]:
        if fields.get(key) is not None:
            flags = np.atleast_1d(np.asarray(fields[key]))
            return bool(flags[-1]) if len(flags) else False
    return None
