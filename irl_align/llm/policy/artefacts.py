"""What a policy is on disk, and how a trained one is saved.

A phase's folder holds `model/` (a plain Hugging Face folder with the adapters merged, what engines
load), `adapter/` (the LoRA weights on the SFT model in full precision, what the next round goes on
from, so that rounding at each merge does not add up) and `probe.json`. A base model that lies
somewhere else is named by `source.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.llm.data.schema import Demonstration
from irl_align.llm.distributed import barrier, world
from irl_align.llm.generation.probe import PROBE_NAME, write_probe
from irl_align.llm.models import save_model, whole_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["PolicyRef", "save_policy"]

_SOURCE = "source.json"


@dataclass(frozen=True)
class PolicyRef:
    """Where a policy's model, its probe and (after a LoRA phase) its adapter lie."""

    folder: Path
    model: Path

    @classmethod
    def at(cls, folder: Path) -> PolicyRef:
        """The policy of a phase folder, or a bare model folder."""
        if (folder / "model").is_dir():
            return cls(folder, folder / "model")
        if (folder / _SOURCE).exists():
            return cls(folder, Path(json.loads((folder / _SOURCE).read_text())["path"]))
        if (folder / "config.json").exists():
            return cls(folder, folder)
        raise UserError(
            f"{folder} holds no policy: expected model/ (or config.json of a model folder)"
        )

    @property
    def probe(self) -> Path:
        return self.folder / PROBE_NAME

    @property
    def adapter(self) -> Path | None:
        path = self.folder / "adapter"
        return path if path.is_dir() else None

    @staticmethod
    def point_to(model: Path, folder: Path) -> PolicyRef:
        """Record in `folder` that its policy is the model folder `model` somewhere else."""
        atomic_write_json(folder / _SOURCE, {"path": str(model.resolve())})
        return PolicyRef(folder, model.resolve())


def save_policy(
    trained: Any,
    build: Callable[[], Any],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    probe: Demonstration,
    *,
    dtype: str,
) -> None:
    """Save a trained causal model (a PeftModel is merged; its adapter is kept beside it).

    Every process calls this; the first one writes. `build` gives the model that training started
    from. The merge adds the full-precision adapter to full-precision weights and rounds once, to
    `dtype`.
    """
    from peft import PeftModel

    whole = whole_model(trained, build)
    if world().is_main:
        if isinstance(whole, PeftModel):
            whole.save_pretrained(str(folder / "adapter"))
            merged: PreTrainedModel = whole.float().merge_and_unload()
        else:
            merged = whole
        merged.config.use_cache = True
        save_model(merged, tokenizer, folder / "model", dtype=dtype)
        write_probe(
            folder / "model", folder / PROBE_NAME, probe.prompt, probe.response, dtype=dtype
        )
    barrier()
