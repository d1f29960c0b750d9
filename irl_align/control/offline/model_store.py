"""A folder of world models that several runs share.

A fit follows from its transitions, settings and seed alone, so methods that are compared on the
same of them would fit the same model one after the other. What differs in any of these has another
name here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from irl_align.control.spaces import Spaces
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.model import FILE, WorldModel
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, commit_folder, sha256_file, to_json

__all__ = ["ModelStore"]

_TOLD = "fit.json"
# Settings that say where a model comes from, and not what it is.
_NOT_OF_THE_FIT = ("path", "store", "compile")


class ModelStore:
    """The models in `folder`, each in a folder named by what it was fitted to and how.

    Args:
        data: the hash of the transitions; seed: of the fit; fixed_horizon: nothing ever ends.
    """

    def __init__(
        self,
        folder: Path,
        config: WorldModelConfig,
        spaces: Spaces,
        *,
        data: str,
        fixed_horizon: bool,
        seed: int,
    ) -> None:
        settings = {k: v for k, v in asdict(config).items() if k not in _NOT_OF_THE_FIT}
        what = to_json([spaces.environment, data, fixed_horizon, seed, settings])
        name = hashlib.sha256(what.encode("utf-8")).hexdigest()[:16]
        self.spaces, self.place = spaces, folder / name

    def find(self) -> tuple[WorldModel, dict[str, Any]] | None:
        """The model and how its fit went; None when nobody has left it here.

        Raises UserError when it is damaged.
        """
        if not self.place.exists():
            return None
        try:
            told = json.loads((self.place / _TOLD).read_text(encoding="utf-8"))
            sound = told.pop("sha256") == sha256_file(self.place / FILE)
        except (OSError, ValueError, KeyError, AttributeError):
            sound = False
        if not sound:
            raise UserError(f"{self.place} is damaged; remove that folder, and it is fitted again")
        return WorldModel.load(self.place, self.spaces), {**told, "taken_from": str(self.place)}

    def keep(self, model: WorldModel, told: Mapping[str, Any]) -> None:
        """Leave the model here, whole; where another run was first, its copy stays."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{self.place.name}.", dir=self.place.parent))
        try:
            model.save(aside)
            atomic_write_json(aside / _TOLD, {**told, "sha256": sha256_file(aside / FILE)})
            commit_folder(aside, self.place)
        except OSError:
            if not self.place.exists():
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
