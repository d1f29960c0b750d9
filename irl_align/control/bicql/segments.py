"""Human preferences over segments of behaviour, as one more term of the upper level.

    -E[log sigma(sum_t r(chosen) - sum_t r(rejected))]

the Bradley-Terry model on sums of the reward that is learned (Christiano et al. 2017; the paper's
open question 2). Sums are undiscounted: a segment is a short stretch, not an episode.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open, sha256_file
from irl_align.core.objectives import bradley_terry

_SIDES = ("chosen", "rejected")


@dataclass(frozen=True, eq=False)
class Segments:
    """P pairs of T steps each; actions in the environment's units, indices as unit vectors.

    Attributes:
        observations: [2, P, T, O], the chosen side first.
        actions: [2, P, T, A].
        sha256: of the file they came from; None when there was none.
    """

    observations: Tensor
    actions: Tensor
    sha256: str | None = None

    def __len__(self) -> int:
        return self.observations.shape[1]

    def loss(self, reward: Any, index: Tensor) -> tuple[Tensor, float]:
        """The term above [] over the pairs at `index`, and the share of them in right order."""
        rewards = reward(self.observations[:, index], self.actions[:, index])  # [2, B, T]
        chosen, rejected = rewards.sum(dim=-1)
        return bradley_terry(chosen, rejected), (chosen > rejected).float().mean().item()


def save_segments(path: Path, segments: dict[str, Any]) -> None:
    """Write the four arrays that `load_segments` reads, atomically."""
    with atomic_open(path) as file:
        np.savez(file, **segments)


def load_segments(path: str, spaces: Spaces) -> Segments:
    """Pairs from an .npz with {chosen,rejected}_{observations,actions}: [P, T, O] and [P, T, A].

    An action that is an index stands as [P, T] or [P, T, 1]. Raises UserError naming file, key, row
    and the mend when a key is missing, shapes do not fit, or a number is not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; set preferences.path, or null for none") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not an .npz of arrays: {error}") from None
    sides = [
        [_column(path, found, f"{side}_{what}") for what in ("observations", "actions")]
        for side in _SIDES
    ]
    for side, (observations, actions) in zip(_SIDES, sides, strict=True):
        wanted = spaces.observation_dim, spaces.action_dim
        dims = observations.shape[-1], actions.shape[-1]
        if dims != wanted or observations.shape[:2] != actions.shape[:2] or not observations.size:
            raise UserError(
                f"{path}: {side}_observations {list(observations.shape)} and {side}_actions "
                f"{list(actions.shape)} must be [P, T, {wanted[0]}] and [P, T, {wanted[1]}] for "
                f"{spaces.environment}"
            )
    if sides[0][0].shape[0] != sides[1][0].shape[0] or sides[0][0].shape != sides[1][0].shape:
        raise UserError(
            f"{path}: chosen and rejected must be as many and as long, got "
            f"{list(sides[0][0].shape)} and {list(sides[1][0].shape)}"
        )
    observations, actions = (
        torch.from_numpy(np.stack([side[number] for side in sides])) for number in (0, 1)
    )
    if spaces.discrete_actions is not None:
        index = actions.long().squeeze(-1)
        if int(index.min()) < 0 or int(index.max()) >= spaces.discrete_actions:
            raise UserError(
                f"{path}: actions from {int(index.min())} to {int(index.max())}, but "
                f"{spaces.environment} has the actions 0 to {spaces.discrete_actions - 1}"
            )
        actions = torch.nn.functional.one_hot(index, spaces.discrete_actions).float()
    return Segments(observations, actions, sha256_file(Path(path)))


def _column(path: str, found: dict[str, Any], key: str) -> Any:
    if key not in found:
        needed = ", ".join(
            f"{side}_{what}" for side in _SIDES for what in ("observations", "actions")
        )
        raise UserError(f"{path}: no array {key!r}; needed are {needed}")
    if found[key].dtype.kind not in "fiub":
        raise UserError(f"{path}: {key} holds {found[key].dtype}, must be numbers")
    array = np.asarray(found[key], dtype=np.float32)
    if array.ndim == 2 and key.endswith("actions"):
        array = array[..., None]
    if array.ndim != 3:
        raise UserError(f"{path}: {key} has shape {list(array.shape)}, must have three axes")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise UserError(f"{path}: {key} is not finite in pair {bad[0][0]}, step {bad[0][1]}")
    return array
