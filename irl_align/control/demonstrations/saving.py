"""Demonstrations as one npz file of plain arrays, readable by `load_demonstrations` and by numpy.

observations [sum(T + 1), O], actions [sum T, A], lengths [N], terminated [N], truncated [N], where
given true_rewards [sum T], and metadata: a JSON object as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from irl_align.control.trajectories import Trajectories
from irl_align.control.true_rewards import TrueRewards
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open, to_json
from irl_align.core.provenance import versions


def save_demonstrations(
    path: Path | str,
    trajectories: Trajectories,
    true_rewards: TrueRewards | None = None,
    **metadata: Any,
) -> None:
    """Write `path` (.npz); a crash leaves the old file or the new one.

    `metadata` is what a reader should know (environment, policy, seed); the versions of the
    packages join it. The same content gives the same bytes. Raises UserError on another suffix or a
    missing folder, ValueError when the rewards are not of these trajectories.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{path}: demonstrations are saved as .npz; name the file so")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    columns: dict[str, Any] = {
        "observations": np.concatenate([t.observations for t in trajectories]),
        "actions": np.concatenate([t.actions for t in trajectories]),
        "lengths": trajectories.lengths,
        "terminated": np.array([t.terminated for t in trajectories]),
        "truncated": np.array([t.truncated for t in trajectories]),
        "metadata": np.array(_metadata(metadata)),
    }
    if true_rewards is not None:
        rewards = [true_rewards.of(number) for number in range(len(true_rewards))]
        if [len(r) for r in rewards] != [len(t) for t in trajectories]:
            raise ValueError("the rewards do not belong to these trajectories: other lengths")
        columns["true_rewards"] = np.concatenate(rewards)
    with atomic_open(path) as file:
        np.savez_compressed(file, **columns)


def _metadata(entries: Mapping[str, Any]) -> str:
    return to_json({**entries, "versions": versions()}, indent=None)
