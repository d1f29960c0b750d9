"""The weights of a model folder, read one at a time: nothing is held that is not looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from irl_align.core.errors import UserError

__all__ = ["SavedWeights"]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class SavedWeights(Mapping[str, Tensor]):
    """Name -> tensor of a folder's safetensors files; each look-up reads from disk.

    Args:
        prefix: only names that begin with it, given without it.

    Raises UserError when the folder has no safetensors, or a file is damaged or missing.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        from safetensors import SafetensorError, safe_open

        self.prefix = prefix
        self._files: dict[str, Path] = {}
        index = folder / _INDEX
        if index.exists():
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        elif (folder / _SINGLE).exists():
            shards = {_SINGLE}
        else:
            raise UserError(f"{folder} has no {_SINGLE}; save the model as safetensors")
        for shard in sorted(shards):
            path = folder / shard
            try:
                with safe_open(str(path), framework="pt") as file:
                    names = list(file.keys())
            except (OSError, SafetensorError) as error:
                raise UserError(f"{path} cannot be read ({error}); restore the folder") from error
            self._files |= {n.removeprefix(prefix): path for n in names if n.startswith(prefix)}

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(str(self._files[name]), framework="pt") as file:
            tensor: Tensor = file.get_tensor(self.prefix + name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
