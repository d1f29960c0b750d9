"""How a tabular artefact (a Q table, theta, an occupancy) lives in a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array

__all__ = ["ArrayCodec"]


@dataclass(frozen=True)
class ArrayCodec:
    """One float64 array as ``<name>.npy``. Loading raises UserError on a file that is none."""

    name: str

    def save(self, value: Array, folder: Path) -> None:
        np.save(folder / f"{self.name}.npy", value, allow_pickle=False)

    def load(self, folder: Path) -> Array:
        path = folder / f"{self.name}.npy"
        try:
            loaded: Array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} cannot be read as an array: {error}") from None
        return loaded
