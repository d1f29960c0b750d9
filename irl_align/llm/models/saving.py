"""A model and its tokenizer as a plain Hugging Face folder, adapters merged in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["merged_state", "save_model"]


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    dtype: str | None = None,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write `model` and `tokenizer` as a plain Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if dtype is not None:
        wanted = getattr(torch, dtype)
        source = state_dict if state_dict is not None else model.state_dict()
        state_dict = {k: v.to(wanted) if v.is_floating_point() else v for k, v in source.items()}
        model.config.dtype = wanted
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, state_dict=state_dict)
    tokenizer.save_pretrained(folder)
    template = folder / "chat_template.jinja"
    if not template.exists():
        template.write_text(str(tokenizer.chat_template), encoding="utf-8")


@torch.no_grad()
def merged_state(model: Any, dtype: str) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """(the plain model, its state with the adapter in use merged in), the weights left untouched.

    The sum is taken in float32 and rounded once, to `dtype`; a model without adapters gives its own
    state. For :func:`save_model` in the middle of training.
    """
    from peft import PeftModel

    wanted = getattr(torch, dtype)
    if not isinstance(model, PeftModel):
        return model, {k: v.to(wanted) for k, v in model.state_dict().items()}
    base: Any = model.get_base_model()
    state: dict[str, torch.Tensor] = {}
    for name, weight in base.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = weight
    for name, module in base.named_modules():
        if hasattr(module, "get_delta_weight"):
            for role in module.active_adapters:
                if role in module.lora_A:
                    key = f"{name}.weight"
                    state[key] = state[key].float() + module.get_delta_weight(role).float()
    return base, {k: v.to(wanted) for k, v in state.items()}
