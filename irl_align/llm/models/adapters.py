"""Fresh LoRA adapters on a model, the same ones for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.core.errors import UserError
from irl_align.llm.models.loading import load_causal_lm

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

    from irl_align.llm.config import LoraSettings, ModelConfig

__all__ = ["adapter_base_dtype", "add_adapters", "load_adapted_lm", "lora_config"]

_LINEAR_SUFFIXES = (
    # Llama, Mistral, Qwen; GPT-NeoX (Pythia); GPT-2; OPT.
    ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    ("c_attn", "c_proj", "c_fc"),
)


def adapter_base_dtype(config: ModelConfig) -> str:
    """Precision of a frozen base under LoRA: that of the matmuls.

    Policies are saved in the engine's precision, so a bfloat16 load loses nothing; the adapters
    stay in full precision, and the output layer, a fifth of a small model's work, runs in bfloat16
    where a float32 copy would escape autocast inside fused losses.
    """
    return "bfloat16" if config.bf16 else config.train_dtype


def load_adapted_lm(
    path: str | Path, config: ModelConfig, lora: LoraSettings | None, seed: int
) -> Any:
    """The model of :func:`load_causal_lm`, under fresh adapters when `lora` asks for them.

    `seed` draws the adapters' start, so that it depends on nothing that was drawn before.
    """
    if lora is None:
        return load_causal_lm(path, config)
    model = load_causal_lm(path, config, dtype=adapter_base_dtype(config))
    return add_adapters(model, lora, "CAUSAL_LM", seed)


def add_adapters(
    model: PreTrainedModel, settings: LoraSettings, task_type: str, seed: int
) -> PeftModel:
    """`model` under fresh LoRA adapters; the same ones for the same `seed`."""
    from peft import get_peft_model
    from transformers.integrations import is_deepspeed_zero3_enabled

    torch.manual_seed(seed)
    adapters = lora_config(settings, model, task_type)
    # ZeRO-3 gathers parameters of one dtype only (deepspeed issue 8072).
    own_dtype = not is_deepspeed_zero3_enabled()
    return get_peft_model(model, adapters, autocast_adapter_dtype=own_dtype)


def lora_config(settings: LoraSettings, model: PreTrainedModel, task_type: str) -> LoraConfig:
    """Adapters on every linear layer of the body, optionally of the top blocks only.

    A score head (`task_type="SEQ_CLS"`) is trained whole and saved; without `modules_to_save` it
    would stay random and be lost.
    """
    from peft import LoraConfig

    layers: list[int] | None = None
    targets: str | list[str] = "all-linear"
    if settings.top_layers is not None:
        depth = int(model.config.num_hidden_layers)
        if not 0 < settings.top_layers <= depth:
            raise UserError(
                f"lora.top_layers={settings.top_layers}: the model has {depth} layers; "
                f"choose 1 to {depth}, or null for all"
            )
        layers = list(range(depth - settings.top_layers, depth))
        names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        found = next((s for s in _LINEAR_SUFFIXES if set(s) & names), None)
        if found is None:
            raise UserError(
                f"lora.top_layers: the linear layers of {type(model).__name__} are not known; "
                "set lora.top_layers=null to adapt all of them"
            )
        targets = sorted(set(found) & names)
    return LoraConfig(
        task_type=task_type,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        layers_to_transform=layers,
        modules_to_save=["score"] if task_type == "SEQ_CLS" else None,
    )
