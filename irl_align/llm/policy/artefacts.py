"""What a policy is on disk, and how a trained one is saved.

A phase's folder holds `model/` (a plain Hugging Face folder with the adapters merged, what engines
load), `adapter/` (the LoRA weights on the SFT model in full precision, what the next round goes on
from, so that rounding at each merge does not add up) and `probe.json`. A base model that lies
somewhere else is named by `source.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.llm.data.schema import Demonstration
from irl_align.llm.distributed import barrier, world
from irl_align.llm.generation.probe import PROBE_NAME, write_probe
from irl_align.llm.models.saving import save_model
from irl_align.llm.models.sharded import whole_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["PolicyRef", "continue_adapter", "save_policy"]

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
            return cls(
                folder, (folder / json.loads((folder / _SOURCE).read_text())["path"]).resolve()
            )
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
        """Record in `folder` that its policy is the model folder `model` somewhere else.

        By a relative path where that lies beside it, so that both can be moved or taken together.
        """
        there, here = model.resolve(), folder.resolve()
        beside = there.is_relative_to(here.parent)
        path = os.path.relpath(there, here) if beside else str(there)
        atomic_write_json(folder / _SOURCE, {"path": path})
        return PolicyRef(folder, there)


def continue_adapter(model: Any, policy: PolicyRef, initial: PolicyRef, reference: str) -> None:
    """Put pi_t's adapter into `model`, fresh adapters on pi_0 (`reference` "sft" or "base").

    Nothing to do where training starts at the loaded weights: at pi_0 itself, or with `reference`
    "previous". UserError when the policy's folder holds no adapter, or another one.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    if reference == "previous" or policy.folder == initial.folder:
        return
    if policy.adapter is None:
        raise UserError(
            f"{policy.folder} has no adapter/ on {initial.folder}, so LoRA with "
            f"policy.reference={reference} cannot go on from it; use reference=previous or "
            "lora=null"
        )
    weights = load_file(policy.adapter / "adapter_model.safetensors")
    try:
        report: Any = set_peft_model_state_dict(model, weights)
        unexpected = report.unexpected_keys
    except RuntimeError as error:  # another rank: shapes differ
        unexpected = str(error)
    if unexpected:
        raise UserError(f"{policy.adapter} does not fit policy.lora; was it changed?")


def save_policy(
    trained: Any,
    build: Callable[[], Any],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    probe: Demonstration,
    *,
    dtype: str,
) -> None:
    """Save a trained causal model (a PeftModel is merged; its adapter "default" is kept beside it,
    adapters of other roles are left out).

    Every process calls this; the first one writes. `build` gives the model that training started
    from. The merge adds the full-precision adapter to full-precision weights and rounds once, to
    `dtype`.
    """
    from peft import PeftModel

    whole = whole_model(trained, build)
    if world().is_main:
        if isinstance(whole, PeftModel):
            for role in [r for r in whole.peft_config if r != "default"]:
                whole.delete_adapter(role)
            whole.set_adapter("default")
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
