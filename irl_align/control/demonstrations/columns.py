"""From named arrays (npz, HDF5, a folder of .npy files) to trajectories.

Three layouts: one row a step with episode lengths, one row a step with flags at the ends (D4RL),
and one padded row a trajectory. Which one it is follows from the arrays; what they do not say is
never guessed but warned about (why an episode ended) or refused (where it ended).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from irl_align.control.demonstrations.by_flags import split_by_flags
from irl_align.control.demonstrations.by_length import split_by_length, split_padded
from irl_align.control.demonstrations.raw import AnyArray, RawFile
from irl_align.core.errors import UserError

# Our name -> the names that files use. The first is the one that we write.
ALIASES = {
    "observations": ("observations", "obs", "states"),
    "actions": ("actions", "acts"),
    "rewards": ("true_rewards", "rewards", "rews"),
    "next_observations": ("next_observations", "next_obs", "next_states"),
    "final_observations": ("final_observations", "final_obs"),
    "lengths": ("lengths", "ep_len", "episode_lengths"),
    "mask": ("mask", "masks"),
    "terminals": ("terminals", "terminations"),
    "timeouts": ("timeouts", "truncations"),
    "terminated": ("terminated",),
    "truncated": ("truncated",),
}


def split_columns(columns: Mapping[str, Any], source: str) -> RawFile:
    """Trajectories of `columns` (key -> array). Raises UserError naming source, key and mend."""
    found: dict[str, AnyArray] = {}
    keys: dict[str, str] = {}
    for name, aliases in ALIASES.items():
        present = [key for key in aliases if key in columns]
        if len(present) > 1:
            raise UserError(
                f"{source}: {' and '.join(map(repr, present))} both stand for {name}; keep one"
            )
        if present:
            keys[name], found[name] = present[0], np.asarray(columns[present[0]])
    for name in ("observations", "actions"):
        if name not in found:
            raise UserError(f"{source}: {missing_key(name, list(columns))}")
    for name, array in found.items():
        if array.dtype.hasobject:
            raise UserError(
                f"{source}: {keys[name]!r} holds Python objects, must be numbers; save plain "
                "arrays (one row a step, with 'lengths')"
            )
    unused = sorted(set(columns) - set(keys.values()) - {"metadata"})
    file = RawFile([], keys, unused)
    if found["observations"].ndim == 3:
        split_padded(file, found, source)
    else:
        _check_rows(found, keys, source)
        if "lengths" not in found and len(found["observations"]) == len(found["actions"]) + 1:
            # One observation more than actions: a recording of a single episode.
            found["lengths"], keys["lengths"] = np.array([len(found["actions"])]), "lengths"
        if "lengths" in found:
            split_by_length(file, found, source)
        else:
            split_by_flags(file, found, columns, source)
    return file


def missing_key(name: str, there: list[str]) -> str:
    """A sentence for a key that is not there: accepted names, the nearest key, all keys."""
    near = [
        match
        for alias in ALIASES[name]
        for match in difflib.get_close_matches(alias, there, n=1, cutoff=0.6)
    ]
    hint = f"; is {near[0]!r} a slip?" if near else ""
    has = ", ".join(there) if there else "nothing"
    return f"no key {name!r} (accepted: {', '.join(ALIASES[name])}){hint} (it has: {has})"


def _check_rows(found: dict[str, AnyArray], keys: dict[str, str], source: str) -> None:
    rows = len(found["actions"]) if found["actions"].ndim else 0
    if found["observations"].ndim != 2 or rows == 0:
        raise UserError(
            f"{source}: {keys['observations']!r} has shape {found['observations'].shape} and "
            f"{keys['actions']!r} {found['actions'].shape}; need [steps, O] and [steps, A], or "
            "[trajectories, T, O] and [trajectories, T, A], with at least one step"
        )
    per_step = ["rewards", "next_observations"]
    if "lengths" not in found:  # with lengths, flags may also be one a trajectory
        per_step += ["terminals", "timeouts"]
    for name in per_step:
        if name in found and len(np.atleast_1d(found[name])) != rows:
            raise UserError(
                f"{source}: {keys[name]!r} has {len(np.atleast_1d(found[name]))} rows but "
                f"{keys['actions']!r} has {rows}; every step needs one row in both"
            )
    if "next_observations" in found and (
        found["next_observations"].shape[1:] != found["observations"].shape[1:]
    ):
        raise UserError(
            f"{source}: {keys['next_observations']!r} has rows of shape "
            f"{found['next_observations'].shape[1:]}, {keys['observations']!r} of "
            f"{found['observations'].shape[1:]}; they must be alike"
        )
